"""In-memory server for the part of the XML API of Google Cloud Storage that a mirror uses."""

import hashlib
import itertools
import sys
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000
objects, uploads, lock, numbers = {}, {}, threading.Lock(), itertools.count(1)


def stored(body, headers):
    kept = {name.lower(): value for name, value in headers.items()}
    kept = {name: value for name, value in kept.items() if name.startswith("x-goog-meta-") or name == "content-type"}
    # The ETag identifies the generation, not only the content.
    generation = str(next(numbers))
    etag = '"%s"' % hashlib.md5(body + generation.encode()).hexdigest()
    return {"body": body, "headers": kept, "generation": generation, "etag": etag, "modified": formatdate(usegmt=True)}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def split(self):
        url = urlsplit(self.path)
        _, _, *key = url.path.split("/", 2)
        return unquote(key[0]) if key else "", {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def about(self, entry):
        return [("ETag", entry["etag"]), ("x-goog-generation", entry["generation"]), ("Last-Modified", entry["modified"])]

    def put(self, key, body, headers):
        """Returns the entry, or None if a condition is not met."""
        wanted = self.headers.get("x-goog-if-generation-match")
        there = objects[key]["generation"] if key in objects else "0"
        if wanted is not None and wanted != there:
            return None
        objects[key] = stored(body, headers)
        return objects[key]

    def do_PUT(self):
        (key, query), body = self.split(), self.body()
        with lock:
            if "uploadId" in query:
                uploads[query["uploadId"]]["parts"][int(query["partNumber"])] = body
                return self.answer(200, headers=[("ETag", '"%s"' % hashlib.md5(body).hexdigest())])
            headers = self.headers
            if source := self.headers.get("x-goog-copy-source"):
                entry = objects.get(unquote(source).split("/", 1)[1])
                if entry is None:
                    return self.answer(404)
                body, headers = entry["body"], entry["headers"]
            entry = self.put(key, body, headers)
            return self.answer(412) if entry is None else self.answer(200, headers=self.about(entry))

    def do_POST(self):
        (key, query), body = self.split(), self.body()
        with lock:
            if "uploads" in query:
                name = "upload-%d" % next(numbers)
                uploads[name] = {"parts": {}, "headers": dict(self.headers.items())}
                text = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
                return self.answer(200, text.encode())
            upload = uploads.pop(query["uploadId"])
            content = b"".join(part for _, part in sorted(upload["parts"].items()))
            objects[key] = stored(content, upload["headers"])
            text = f"<CompleteMultipartUploadResult><ETag>{escape(objects[key]['etag'])}</ETag></CompleteMultipartUploadResult>"
            self.answer(200, text.encode(), [("x-goog-generation", objects[key]["generation"])])

    def do_GET(self):
        key, query = self.split()
        with lock:
            if not key:
                return self.answer(200, self.listing(query).encode())
            entry = objects.get(key)
        if entry is None:
            return self.answer(404)
        self.answer(200, entry["body"], self.about(entry) + list(entry["headers"].items()))

    do_HEAD = do_GET

    def do_DELETE(self):
        key, query = self.split()
        wanted = self.headers.get("x-goog-if-generation-match")
        with lock:
            if wanted is not None:
                # The service ignores this header in a signed URL that does not name it.
                if "x-goog-if-generation-match" not in query.get("X-Goog-SignedHeaders", ""):
                    return self.answer(400)
                if key in objects and objects[key]["generation"] != wanted:
                    return self.answer(412)
            found = uploads.pop(query["uploadId"], None) if "uploadId" in query else objects.pop(key, None)
        self.answer(404 if found is None else 204)

    def listing(self, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        after = max(query.get("start-after", ""), query.get("continuation-token", ""))
        contents, prefixes, token = [], [], ""
        for key in sorted(key for key in objects if key.startswith(prefix) and key > after):
            if len(contents) + len(prefixes) == PAGE:
                token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>"
                break
            last, below = key, key[len(prefix) :]
            if delimiter and delimiter in below:
                common = prefix + below.split(delimiter, 1)[0] + delimiter
                if common not in prefixes:
                    prefixes.append(common)
                continue
            contents.append(key)
        parts = [f"<CommonPrefixes><Prefix>{escape(common)}</Prefix></CommonPrefixes>" for common in prefixes]
        for key in contents:
            entry = objects[key]
            parts.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>{escape(entry['etag'])}</ETag><Size>{len(entry['body'])}</Size></Contents>"
            )
        return f"<ListBucketResult>{''.join(parts)}{token}</ListBucketResult>"


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
