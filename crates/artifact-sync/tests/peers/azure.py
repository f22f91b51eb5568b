"""Creates a container. The request is signed as in Azure's "Authorize with Shared Key"."""

import base64
import datetime
import hashlib
import hmac
import sys
import urllib.request

endpoint, account, key, container = sys.argv[1:5]
date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
version = "2021-08-06"
text = "\n".join(
    ["PUT", *[""] * 11, f"x-ms-date:{date}", f"x-ms-version:{version}", f"/{account}/{account}/{container}", "restype:container"]
)
signature = base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()
request = urllib.request.Request(f"{endpoint}/{container}?restype=container", method="PUT")
request.add_header("x-ms-date", date)
request.add_header("x-ms-version", version)
request.add_header("Authorization", f"SharedKey {account}:{signature}")
request.add_header("Content-Length", "0")
assert urllib.request.urlopen(request).status == 201
