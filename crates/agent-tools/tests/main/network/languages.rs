//! Clients of HTTP in the languages that agents write programs in, and a browser.

use super::masked::VALUE;
use super::programs::{AUTHORITY, Programs, Python, node, script};

#[tokio::test]
async fn clients_of_python() {
    let Some(python) = Python::find("clients of Python") else { return };
    let programs = Programs::open(&[], python.readable()).await;
    programs.session.write_file("client.py", &script("client.py")).await.unwrap();
    let program = python.program();
    let clients = ["requests", "httpx", "aiohttp", "urllib"];
    for client in clients {
        let command = format!("{} client.py {client} URL/ {AUTHORITY}", program.display());
        programs.check_web(&command, "200 hello").await;
    }
    programs.mask();
    for client in clients {
        let command = format!("{} client.py {client} URL/", program.display());
        programs.check_masked(&command, "200 hello").await;
    }
}

#[tokio::test]
async fn clients_of_node() {
    let Some((node, modules)) = node("clients of node") else { return };
    let programs = Programs::open(&[], vec![modules.clone()]).await;
    programs.session.write_file("client.cjs", &script("client.cjs")).await.unwrap();
    let (node, modules) = (node.display(), modules.display());
    let clients = ["fetch", "undici", "axios", "http"];
    let command = |client| format!("NODE_PATH={modules} {node} client.cjs {client} URL/");
    for client in clients {
        let command = format!("NODE_EXTRA_CA_CERTS={AUTHORITY} {}", command(client));
        programs.check_web(&command, "200 hello").await;
    }
    programs.mask();
    for client in clients {
        programs.check_masked(&command(client), "200 hello").await;
    }
}

#[tokio::test]
async fn a_client_of_go() {
    let programs = Programs::open(&[], Vec::new()).await;
    if !programs.has("go", "golang-go").await {
        return;
    }
    programs.session.write_file("client.go", &script("client.go")).await.unwrap();
    programs.run("GOCACHE=$TMPDIR/cache go build -o client client.go").await;
    // Its own resolver of names, and that of the system.
    for resolver in ["go", "cgo"] {
        let command = format!("GODEBUG=netdns={resolver} SSL_CERT_FILE={AUTHORITY} ./client URL/");
        programs.check_web(&command, "200 hello").await;
    }
    programs.mask();
    programs.check_masked("./client URL/", "200 hello").await;
}

#[tokio::test]
async fn clients_of_java() {
    let programs = Programs::open(&[], Vec::new()).await;
    if !programs.has("javac", "default-jdk-headless").await {
        return;
    }
    programs.session.write_file("Client.java", &script("Client.java")).await.unwrap();
    programs.run("javac -J-XX:TieredStopAtLevel=1 Client.java").await;
    let clients = ["HttpClient", "URLConnection"];
    for client in clients {
        let command = format!("java -XX:TieredStopAtLevel=1 Client {client} URL/ {AUTHORITY} 2>&1");
        programs.check_web(&command, "200 hello").await;
    }
    programs.mask();
    for client in clients {
        let command = format!("java -XX:TieredStopAtLevel=1 Client {client} URL/ 2>&1");
        programs.check_masked(&command, "200 hello").await;
    }
}

/// Creates the database with the certificates that a browser trusts, which reads no bundle.
const TRUST: &str = "export HOME=$TMPDIR/browser; db=$HOME/.pki/nssdb; rm -rf $db; mkdir -p $db; \
                     certutil -d sql:$db -N --empty-password && \
                     certutil -d sql:$db -A -n gate -t C,, -i FILE && ";
/// The session is its sandbox. It complains about services of a desktop.
const BROWSE: &str =
    "chromium-headless-shell --no-sandbox --disable-gpu --dump-dom 'URL/' 2>/dev/null";

#[tokio::test]
async fn a_browser() {
    let programs = Programs::open(&[], Vec::new()).await;
    let is_there = programs.has("chromium-headless-shell", "chromium-headless-shell").await
        && programs.has("certutil", "libnss3-tools").await;
    if !is_there {
        return;
    }
    let command = format!("{}{BROWSE} | grep hello", TRUST.replace("FILE", AUTHORITY));
    programs.check_web(&command, "hello").await;

    // The first certificate of the bundle is that of the gate.
    programs.mask();
    let trust = TRUST.replace("FILE", "$NODE_EXTRA_CA_CERTS");
    let browse = BROWSE.replace("'URL/'", "\"https://origin.test/?key=$KEY\"");
    let masked = format!("echo $KEY; {trust}{browse}");
    let ran = programs.session.bash(&masked).await.unwrap();
    assert!(ran.stdout.starts_with("ghp_") && ran.stdout.contains("hello"), "{}", ran.stdout);
    assert!(!ran.stdout.contains(VALUE) && ran.denied.is_empty(), "{ran:?}");
    let received = programs.origin.requests();
    let inserted = format!("GET /?key={VALUE} HTTP/1.1");
    assert!(received.contains(&inserted), "{received:?}");
    let refused = format!("{trust}{}", BROWSE.replace("URL", "https://denied.test"));
    let page = programs.session.bash(&refused).await.unwrap().stdout;
    assert!(page.contains("no entry of allowedDomains covers it"), "{page}");
}
