//! The proxy of srt in a node process.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

pub(crate) struct Srt {
    pub(crate) proxy: SocketAddr,
    /// Header with the token, without which srt refuses a client.
    pub(crate) header: String,
    pub(crate) resident_bytes: u64,
    /// Its end ends node.
    _input: ChildStdin,
    node: Child,
}

impl Srt {
    /// Starts node. Returns `None` if node or the package does not work here.
    pub(crate) fn start(host: &str) -> Option<Self> {
        let package = std::env::var_os("SRT_PACKAGE_DIR")?;
        // The variable names the present folder, also of a clone that was moved after its build.
        let package_of_bench = std::env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let script = Path::new(&package_of_bench).join("benches/side_by_side/srt.mjs");
        let node = std::env::var_os("NODE22").unwrap_or_else(|| "node".into());
        let mut node = Command::new(node)
            .arg(script)
            .arg(package)
            .arg(host)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let (input, output) = (node.stdin.take()?, node.stdout.take()?);
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let started = (|| {
            let port: u16 = lines.next()?.parse().ok()?;
            let token = lines.next()?;
            Some((port, token, lines.next()?.parse().ok()?))
        })();
        let Some((port, token, resident_bytes)) = started else {
            let _ = node.kill();
            let _ = node.wait();
            return None;
        };
        Some(Self {
            proxy: (Ipv4Addr::LOCALHOST, port).into(),
            header: format!("Proxy-Authorization: Basic {}\r\n", base64(&format!("srt:{token}"))),
            resident_bytes,
            _input: input,
            node,
        })
    }
}

impl Drop for Srt {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

/// Encodes a text for a header.
fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * at) & 63) as usize];
            encoded.push(if at <= chunk.len() { digit.into() } else { '=' });
        }
    }
    encoded
}
