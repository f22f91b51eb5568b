//! A TLS server on loopback that returns what it receives, for clients with their own certificates.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Answers with the request, in JSON, and serves the files of a git repository to requests with
/// credentials.
const SERVER: &str = r#"
import json, os, ssl, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        line = json.dumps({"path": self.path, "headers": headers, "body": body})
        with open("requests.jsonl", "a") as log:
            log.write(line + "\n")
        status, content = 200, line.encode() + b"\n"
        path = "." + self.path.split("?")[0]
        if path.startswith("./r.git/"):
            status = 401 if "authorization" not in headers else 200 if os.path.isfile(path) else 404
            content = open(path, "rb").read() if status == 200 else b""
        self.send_response(status)
        if status == 401:
            self.send_header("www-authenticate", 'Basic realm="r"')
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("certificate.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// The server, which is killed when dropped.
pub(super) struct SecureOrigin {
    pub(super) port: u16,
    pub(super) dir: tempfile::TempDir,
    server: Child,
}

impl Drop for SecureOrigin {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl SecureOrigin {
    /// Starts a server for `origin.test` and `other.test`. Returns `None` without its programs.
    pub(super) fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let certificate = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
                           -days 2 -keyout key.pem -out certificate.pem -subj /CN=origin.test \
                           -addext subjectAltName=DNS:origin.test,DNS:other.test \
                           -addext basicConstraints=critical,CA:FALSE";
        let made = Command::new("openssl")
            .args(certificate.split_whitespace())
            .current_dir(dir.path())
            .stderr(Stdio::null())
            .status();
        made.ok().filter(|made| made.success())?;
        let mut server = Command::new("/usr/bin/python3")
            .args(["-c", SERVER])
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Some(Self { port: line.trim().parse().unwrap(), dir, server })
    }

    /// Returns the certificate, by which clients trust the server.
    pub(super) fn certificate(&self) -> PathBuf {
        self.dir.path().join("certificate.pem")
    }

    /// Creates a git repository with one commit for `/r.git`. Returns whether git can.
    pub(super) fn add_repository(&self) -> bool {
        let script = "git init -q --bare r.git && git init -q w && cd w && \
                      git -c user.name=a -c user.email=a@b.c commit -q --allow-empty -m first && \
                      git push -q ../r.git HEAD:refs/heads/main && \
                      git --git-dir ../r.git symbolic-ref HEAD refs/heads/main && \
                      git --git-dir ../r.git update-server-info";
        let made = Command::new("sh").args(["-c", script]).current_dir(self.dir.path()).status();
        made.is_ok_and(|made| made.success())
    }

    /// Returns the requests so far, in JSON.
    pub(super) fn requests(&self) -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(self.dir.path().join("requests.jsonl"));
        let log = log.unwrap_or_default();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}
