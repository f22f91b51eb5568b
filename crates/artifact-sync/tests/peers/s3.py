"""Second S3 client: creates a bucket, puts invalid keys, and lists keys."""

import json
import sys

import boto3

endpoint, what = sys.argv[1:3]
client = boto3.client(
    "s3",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="access",
    aws_secret_access_key="secret",
)
if what == "make":
    client.create_bucket(Bucket="bucket")
elif what == "put":
    for key in json.load(sys.stdin):
        client.put_object(Bucket="bucket", Key=key, Body=b"" if key.endswith("/") else b"foreign")
else:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=sys.argv[3])
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    json.dump(sorted(keys), sys.stdout)
