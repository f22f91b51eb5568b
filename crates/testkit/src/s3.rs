//! A server that speaks S3 and checks signatures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::sync::oneshot;

const ACCESS_KEY: &str = "access";
const SECRET_KEY: &str = "secret";

/// An S3 server on loopback that stores one bucket in a temporary directory. Dropping it stops it.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
    root: tempfile::TempDir,
}

impl S3Server {
    /// Name of the bucket.
    pub const BUCKET: &str = "bucket";

    /// Starts the server in a thread.
    ///
    /// # Panics
    /// Panics if the server cannot start.
    pub fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(Self::BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel();
        // A thread and a runtime apart from those of the test, which may be blocked or paused.
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, service) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, _stop: stop, root }
    }

    /// Environment variables with the address of the server and the credentials.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        s3_environment(format!("http://{}", self.address))
    }

    /// Returns the files of multipart uploads that were neither completed nor aborted.
    ///
    /// # Panics
    /// Panics if the directory of the server cannot be read.
    pub fn leftover_uploads(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root.path()).unwrap();
        let is_upload = |path: &PathBuf| {
            // The server removes the record of an upload before it reads the parts, and leaves them
            // if the connection ends meanwhile.
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".upload-"))
        };
        entries.map(|entry| entry.unwrap().path()).filter(is_upload).collect()
    }
}

/// Environment variables with the address of an S3 server and the credentials of tests.
pub fn s3_environment(endpoint: String) -> [(&'static str, String); 4] {
    [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT", endpoint),
    ]
}

async fn serve(listener: TcpListener, service: S3Service) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((socket, _)) = listener.accept().await {
        let service = service.clone();
        tokio::spawn(async move {
            let connection = Builder::new(TokioExecutor::new());
            let _ = connection.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// Sends a plain GET request without credentials. Returns the status code and the body.
///
/// # Panics
/// Panics if the URL is invalid, the server cannot be reached, or the response is not HTTP.
#[track_caller]
pub fn http_get(url: &str) -> (u16, Vec<u8>) {
    let url = url::Url::parse(url).unwrap();
    let host = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(&host).unwrap();
    let target = &url[url::Position::BeforePath..];
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let head = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let status = String::from_utf8_lossy(&response[9..12]).parse().unwrap();
    (status, response[head + 4..].to_vec())
}
