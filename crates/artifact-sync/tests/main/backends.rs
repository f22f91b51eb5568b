//! The suite of `artifact_sync::conformance` on every available store: in this process, and on
//! loopback in other programs.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use artifact_sync::{
    ConditionalDelete, ConditionalDeletion, OpenedStore, PresignedDelete, conformance,
    open_directory, open_store,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{ClientOptions, Error, ObjectStore, ObjectStoreExt, UpdateVersion};
use testkit::{S3Server, assert_passed, http_get, rerun, s3_environment, skipped};

use crate::links;
use crate::listing;
use crate::machine::{Machine, PREFIX, changed};

/// Environment variable with the Python environment of the servers and the second client.
const PYTHON_DIR: &str = "PEERS_PYTHON_DIR";
/// Environment variable with the npm package of Azurite.
const AZURITE_DIR: &str = "AZURITE_DIR";
/// Azurite's well-known account.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Server program on loopback. Dropping it kills the program.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a program that listens on the first of four free ports. `arguments` receives a
    /// directory and the ports.
    fn start(program: &Path, arguments: impl FnOnce(&Path, &[u16; 4]) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = [0; 4].map(|_: u8| free_port());
        let child = Command::new(program)
            .args(arguments(dir.path(), &ports))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port: ports[0], _dir: dir };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", server.port)).is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{} does not listen",
                program.display()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// Returns a free port. The port 10,000 above it, which some servers use too, is also free.
fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = 20_000 + port % 20_000;
        if [port, port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        {
            return port;
        }
    }
}

fn python(arguments: &[&str], input: &str) -> String {
    let dir = PathBuf::from(std::env::var_os(PYTHON_DIR).unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(arguments[0]);
    let mut child = Command::new(dir.join("bin/python"))
        .arg(script)
        .args(&arguments[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs one test of this file again, in a process with these environment variables. That process
/// opens stores by URL.
fn again(test: &str, variables: &[(&str, String)]) {
    let ran = rerun(&format!("backends::{test}"))
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .env("ARTIFACT_SYNC_BACKEND", test)
        .output()
        .unwrap();
    assert_passed(&ran);
}

fn is_again() -> bool {
    std::env::var_os("ARTIFACT_SYNC_BACKEND").is_some()
}

async fn check(url: &str) {
    let opened = open_store(url).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let prefix = Key::from("conformance");
    conformance::check_with(&opened.store, &opened.capabilities, &prefix, scratch.path()).await;
}

/// Deletes a stale version of an object and then the current one. Returns whether the server kept
/// the object the first time. A server may not know conditional deletion, but the current version
/// must be deleted.
async fn keeps_other_versions(store: &dyn ObjectStore, deleter: &dyn ConditionalDelete) -> bool {
    let key = Key::from("deletion/d/a-b_c.txt");
    let version =
        |put: object_store::PutResult| UpdateVersion { e_tag: put.e_tag, version: put.version };
    let stale = version(store.put(&key, "1".into()).await.unwrap());
    let current = version(store.put(&key, "2".into()).await.unwrap());
    let keeps = match deleter.delete_if(&key, &stale).await.unwrap() {
        ConditionalDeletion::OtherVersion => true,
        ConditionalDeletion::Deleted => false,
        other => panic!("{other:?}"),
    };
    assert_eq!(store.head(&key).await.is_ok(), keeps);
    let deleted = deleter.delete_if(&key, &current).await.unwrap();
    assert_eq!(deleted, ConditionalDeletion::Deleted);
    assert!(matches!(store.head(&key).await, Err(Error::NotFound { .. })));
    // A repeated request, after a lost answer, is no error.
    deleter.delete_if(&key, &current).await.unwrap();
    keeps
}

async fn opened_keeps_other_versions(opened: &OpenedStore) -> bool {
    let deleter = opened.capabilities.conditional_delete.as_deref().unwrap();
    keeps_other_versions(&*opened.store, deleter).await
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    check("memory:///").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_disk() {
    let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let opened = open_directory(dir.path()).unwrap();
    let prefix = Key::from("conformance");
    conformance::check_with(&opened.store, &opened.capabilities, &prefix, scratch.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_in_this_process() {
    if is_again() {
        assert!(!opened_keeps_other_versions(&open_store("s3://bucket").unwrap()).await);
        links::check_presigned(&open_store("s3://bucket").unwrap()).await;
        return check("s3://bucket").await;
    }
    again("s3_in_this_process", &S3Server::start().environment());
}

#[tokio::test(flavor = "multi_thread")]
async fn seaweedfs() {
    if is_again() {
        assert!(opened_keeps_other_versions(&open_store("s3://bucket").unwrap()).await);
        links::check_presigned(&open_store("s3://bucket").unwrap()).await;
        check("s3://bucket").await;
        return other_clients_agree(&std::env::var("AWS_ENDPOINT").unwrap()).await;
    }
    let Some(dir) = std::env::var_os(PYTHON_DIR).map(PathBuf::from) else {
        return skipped("SeaweedFS", "cargo xtask peers");
    };
    let server = Server::start(&dir.join("bin/weed"), |dir, [s3, master, volume, filer]| {
        let identities = serde_json::json!({ "identities": [{
            "name": "t",
            "credentials": [{ "accessKey": "access", "secretKey": "secret" }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }] });
        std::fs::write(dir.join("s3.json"), identities.to_string()).unwrap();
        let ports = format!(
            "-s3.port={s3} -master.port={master} -volume.port={volume} -filer.port={filer}"
        );
        let rest = "server -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir=. -s3 -s3.config=s3.json \
                    -volume.max=20 -master.volumeSizeLimitMB=64 -master.telemetry=false";
        rest.split(' ').chain(ports.split(' ')).map(str::to_owned).collect()
    });
    // The server listens before it can store objects.
    std::thread::sleep(Duration::from_secs(5));
    python(&["s3.py", &server.url(), "make"], "");
    again("seaweedfs", &s3_environment(server.url()));
}

/// Checks that another client lists the same keys, and that a link opens only its object.
async fn other_clients_agree(endpoint: &str) {
    let opened = open_store("s3://bucket").unwrap();
    let mut machine = Machine::new(opened.store);
    machine.linker = opened.linker;
    let mirror = machine.open().await;
    let names = ["a b é+&%20#?.txt", "d/emoji 🎉", "plain"];
    for name in names {
        machine.write(name, name);
    }
    let report = mirror.sync().await.unwrap();
    assert_eq!(changed(&report), names);
    let listed: Vec<String> =
        serde_json::from_str(&python(&["s3.py", endpoint, "list", PREFIX], "")).unwrap();
    assert_eq!(listed, names.map(|name| format!("{PREFIX}/{name}")));
    for mirrored in &report.changed {
        let link = mirrored.url.as_ref().unwrap();
        assert_eq!(http_get(link), (200, mirrored.path.as_str().as_bytes().to_vec()), "{link}");
        assert_eq!(
            http_get(&link.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200")).0,
            403,
            "{link}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moto() {
    if is_again() {
        assert!(opened_keeps_other_versions(&open_store("s3://bucket").unwrap()).await);
        links::check_presigned(&open_store("s3://bucket").unwrap()).await;
        check("s3://bucket").await;
        return hostile_keys(&std::env::var("AWS_ENDPOINT").unwrap()).await;
    }
    let Some(dir) = std::env::var_os(PYTHON_DIR).map(PathBuf::from) else {
        return skipped("moto", "cargo xtask peers");
    };
    let server = Server::start(&dir.join("bin/moto_server"), |_, ports| {
        ["-H", "127.0.0.1", "-p", &ports[0].to_string()].map(str::to_owned).into()
    });
    python(&["s3.py", &server.url(), "make"], "");
    again("moto", &s3_environment(server.url()));
}

/// Checks that an invalid key from another client costs only its own directory of keys, and is
/// reported.
async fn hostile_keys(endpoint: &str) {
    let keys = ["ok", "d/ok", "x//y", "e/../f", "tab/a\tb", "marker/", "marker/ok", "deep/a/./b"];
    let whole: Vec<String> = keys.iter().map(|key| format!("{PREFIX}/{key}")).collect();
    python(&["s3.py", endpoint, "put"], &serde_json::to_string(&whole).unwrap());
    let machine = Machine::new(open_store("s3://bucket").unwrap().store);
    let mirror = machine.open().await;
    let report = mirror.opened().clone();
    let files: Vec<String> = machine.files().into_keys().collect();
    assert_eq!(files, ["d/ok", "marker/ok", "ok"]);
    let named: Vec<&str> = report.failed.iter().map(|failed| failed.key.as_str()).collect();
    for part in ["x/", "e/", "tab/", "deep/a/"] {
        assert!(named.iter().any(|key| *key == format!("{PREFIX}/{part}")), "{part} of {named:?}");
    }
    machine.write("mine", "1");
    assert_eq!(changed(&mirror.sync().await.unwrap()), ["mine"]);

    // By page, an odd key costs nothing but itself, also at the top of the prefix.
    let top = ["hostile//x", "hostile/a", "hostile/d/./x", "hostile/d/b", "hostile/tab\there"];
    let mut all: Vec<String> = top.map(str::to_owned).into();
    all.extend((0..1_200).map(|number| format!("hostile/e/{number:04}")));
    python(&["s3.py", endpoint, "put"], &serde_json::to_string(&all).unwrap());
    let opened = open_store("s3://bucket").unwrap();
    let found = listing::list(&*opened.store, &opened.capabilities, "hostile").await;
    all.sort();
    let (valid, odd): (Vec<_>, Vec<_>) = all.into_iter().partition(|key| Key::parse(key).is_ok());
    assert_eq!((found.objects, found.odd), (valid, odd));
    assert!(found.incomplete.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn gcs_stand_in() {
    let program = ["python3", "python"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok());
    let Some(program) = program else { return skipped("the stand-in for GCS", "package python3") };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/gcs.py");
    let server = Server::start(Path::new(program), |_, ports| {
        vec![script.display().to_string(), ports[0].to_string()]
    });
    let _ = rustls::crypto::ring::default_provider().install_default();
    let account = serde_json::json!({
        "gcs_base_url": server.url(),
        "disable_oauth": true,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    });
    let store = GoogleCloudStorageBuilder::new()
        .with_bucket_name("bucket")
        .with_service_account_key(account.to_string())
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()
        .unwrap();
    let (store, scratch): (Arc<dyn ObjectStore>, _) =
        (Arc::new(store), tempfile::tempdir().unwrap());
    conformance::check(&store, &Key::from("conformance"), scratch.path()).await;

    let Some(private_key) = new_private_key() else {
        return skipped("signatures of GCS", "package openssl");
    };
    let account = serde_json::json!({
        "gcs_base_url": server.url(),
        "client_email": "a@b",
        "private_key": private_key,
        "private_key_id": "1",
    });
    let store = GoogleCloudStorageBuilder::new()
        .with_bucket_name("bucket")
        .with_service_account_key(account.to_string())
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()
        .unwrap();
    let store = Arc::new(store);
    let deleter = PresignedDelete::gcs(Arc::clone(&store) as _).unwrap();
    assert!(keeps_other_versions(&*store, &deleter).await);
}

/// Returns a new RSA key. The client signs with it, and the stand-in accepts any signature.
fn new_private_key() -> Option<String> {
    let output = Command::new("openssl").args(["genrsa", "-traditional", "2048"]).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite() {
    if is_again() {
        assert!(opened_keeps_other_versions(&open_store("az://container").unwrap()).await);
        links::check_presigned(&open_store("az://container").unwrap()).await;
        check("az://container").await;
        return azure_links().await;
    }
    let (Some(package), Some(_)) = (std::env::var_os(AZURITE_DIR), std::env::var_os(PYTHON_DIR))
    else {
        return skipped("Azurite", "cargo xtask peers");
    };
    let server = Server::start(Path::new("node"), |dir, ports| {
        let main = Path::new(&package).join("dist/src/blob/main.js");
        let port = ports[0].to_string();
        let arguments = [
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            &port,
            "--silent",
            "--skipApiVersionCheck",
            "--disableTelemetry",
        ];
        let location = ["--location".to_owned(), dir.display().to_string()];
        [main.display().to_string()]
            .into_iter()
            .chain(arguments.map(str::to_owned))
            .chain(location)
            .collect()
    });
    let endpoint = format!("{}/{ACCOUNT}", server.url());
    python(&["azure.py", &endpoint, ACCOUNT, ACCOUNT_KEY, "container"], "");
    let variables = [
        ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.to_owned()),
        ("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY.to_owned()),
        ("AZURE_STORAGE_ENDPOINT", endpoint),
    ];
    again("azurite", &variables);
}

/// Checks that a link opens its object, and that a key without a correct link gets none.
async fn azure_links() {
    let opened = open_store("az://container").unwrap();
    let mut machine = Machine::new(opened.store);
    machine.linker = opened.linker;
    let mirror = machine.open().await;
    machine.write("plain.txt", "1");
    machine.write("with space", "2");
    let report = mirror.sync().await.unwrap();
    let link = |at: usize| report.changed[at].url.as_deref();
    assert_eq!(http_get(link(0).unwrap()), (200, b"1".to_vec()));
    assert_eq!(link(1), None, "the server would reject it");
}
