//! Files of the host in the place of others.

use std::fs;
use std::path::Path;

use sandbox_core::{NativeSandbox, Overlay, Sandbox as _};

use crate::fixture::{fixture, spec, without_namespaces};

#[tokio::test]
async fn a_file_of_the_host_is_shown_in_the_place_of_another_one() {
    if without_namespaces() {
        return;
    }
    let fixture = fixture();
    let write = |name: &str, text: &str| {
        let path = fixture.root.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    // The source is hidden, and so is one of the targets.
    let (source, hidden) = (write("source", "shown\n"), write("hidden", "hidden\n"));
    let target = Path::new("/etc/passwd").canonicalize().unwrap();
    let over = |target: &Path| Overlay { target: target.to_owned(), source: source.clone() };
    let policy = fixture.policy();
    let sandbox = NativeSandbox::builder(&policy, &fixture.dir)
        .overlays([over(&target), over(&hidden), over(Path::new("/etc/no-such-file"))])
        .open()
        .unwrap();
    assert_eq!(sandbox.overlays(), [over(&target)]);
    let command = format!(
        "cat {}; echo x > {}; cat {}; cat {}; ls -d /etc/no-such-file",
        target.display(),
        target.display(),
        source.display(),
        hidden.display()
    );
    let output = sandbox.exec(spec(&command)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout.bytes), "shown\n");
    let stderr = String::from_utf8_lossy(&output.stderr.bytes);
    assert!(stderr.contains("Read-only file system"), "{stderr}");
    assert_eq!(stderr.matches("No such file").count(), 3, "{stderr}");
    // A new mount of the policy does not undo it.
    sandbox.refresh().unwrap();
    let output = sandbox.exec(spec("cat /etc/passwd")).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout.bytes), "shown\n");
    assert_ne!(fs::read_to_string(target).unwrap(), "shown\n");
}
