//! The file calls of programs, in the serving process and through another one.

use std::collections::BTreeMap;
use std::io::Read;

use agent_tools::policy::Policy;
use agent_tools::{ByteRange, ErrorKind, FileKind, ListOptions, Session, TarLimits, ToolError};

use crate::session::{Fixture, spec};

fn range(start: u64, end: Option<u64>) -> ByteRange {
    ByteRange { start, end }
}

/// Opens a session in two `Sessions`, so that the second one reaches it over the socket.
async fn open_twice(fixture: &Fixture) -> [std::sync::Arc<Session>; 2] {
    let first = fixture.open("s1").await;
    let second = fixture.other_process().open(spec("s1")).await.unwrap();
    assert!(second.is_served_elsewhere());
    [first, second]
}

async fn names(session: &Session, path: &str) -> Vec<String> {
    let page = session.list(path, ListOptions::default()).await.unwrap();
    page.entries.into_iter().map(|entry| entry.name).collect()
}

#[tokio::test]
async fn files_are_inspected_changed_and_mirrored_here_and_from_another_process() {
    let fixture = Fixture::new();
    for (round, session) in open_twice(&fixture).await.into_iter().enumerate() {
        let at = |path: &str| format!("r{round}/{path}");
        session.create_dir(&at("d/e")).await.unwrap();
        session.create_dir(&at("d")).await.unwrap();
        let written = session.write_bytes(&at("d/f"), b"0123456789").await.unwrap();
        assert!(written.key.is_some());
        let stat = session.stat(&at("d/f")).await.unwrap();
        assert_eq!((stat.kind, stat.size), (FileKind::File, 10));
        assert_eq!(session.stat(&at("d")).await.unwrap().kind, FileKind::Directory);
        assert_eq!(session.stat("").await.unwrap().kind, FileKind::Directory);
        let part = session.read_range(&at("d/f"), range(3, Some(5))).await.unwrap();
        assert_eq!((&part.bytes[..], part.total_bytes), (&b"34"[..], 10));
        let behind = session.read_range(&at("d/f"), range(11, None)).await.unwrap();
        assert!(behind.bytes.is_empty());

        let moved = session.rename(&at("d/f"), &at("new/g")).await.unwrap();
        assert_eq!(moved.changed[0].path.as_str(), at("new/g"));
        assert_eq!(moved.deleted[0].as_str(), at("d/f"));
        assert!(!session.exists(&at("d/f")).await.unwrap());
        session.rename(&at("new"), &at("d/e")).await.unwrap();
        let listed = session.bash(&format!("find r{round} | sort")).await.unwrap();
        let expected = [at(""), at("d"), at("d/e"), at("d/e/g")];
        let expected = expected.map(|path| path.trim_end_matches('/').to_owned());
        assert_eq!(listed.command_stdout().lines().collect::<Vec<_>>(), expected);

        let error = session.delete_file(&at("d/e")).await.unwrap_err();
        assert!(error.message().contains("is a directory"), "{}", error.message());
        let deleted = session.delete_dir(&at("d")).await.unwrap();
        assert_eq!(deleted.deleted.len(), 1);
        assert_eq!(names(&session, &at("")).await, [""; 0]);
        for missing in [
            session.stat(&at("d")).await.map(drop),
            session.list(&at("d"), ListOptions::default()).await.map(drop),
            session.read_range(&at("d/x"), range(0, None)).await.map(drop),
            session.rename(&at("d"), "x").await.map(drop),
            session.delete_file(&at("d")).await.map(drop),
            session.delete_dir(&at("d")).await.map(drop),
        ] {
            assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
        }
    }
}

#[tokio::test]
async fn a_directory_is_listed_in_pages() {
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session.bash("mkdir d; cd d; touch a b c $'\\xff'; ln -s / l; mkfifo p").await.unwrap();
    let mut options = ListOptions::default();
    options.limit = 2;
    let mut seen = Vec::new();
    loop {
        let page = session.list("d", options.clone()).await.unwrap();
        assert_eq!(page.unnameable, 1);
        seen.extend(page.entries.into_iter().map(|entry| (entry.name, entry.stat.kind)));
        match page.next {
            Some(next) => options.after = Some(next),
            None => break,
        }
    }
    let kinds: BTreeMap<_, _> = seen.iter().cloned().collect();
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert_eq!(
        (kinds["a"], kinds["l"], kinds["p"]),
        (FileKind::File, FileKind::Symlink, FileKind::Other)
    );
}

#[tokio::test]
async fn links_tmp_and_the_policy_confine_every_call() {
    let fixture = Fixture::new();
    let dir = fixture.sessions.home().session_dir(&"s1".parse().unwrap());
    std::fs::create_dir_all(&dir).unwrap();
    for path in ["kept/in", "secret/x"] {
        testkit::write_file(&dir, path, "x");
    }
    let policy = Policy::session(&dir)
        .deny_write(&dir.join("kept/in"))
        .deny_read(&dir.join("secret"))
        .build()
        .unwrap();
    let mut spec = spec("s1");
    spec.policy = Some(policy.config().clone());
    let session = fixture.sessions.open(spec).await.unwrap();
    session.bash("ln -s .. up; ln -s /etc etc; ln -s kept inside; echo t > /tmp/t").await.unwrap();
    for path in ["up", "up/x", "etc", "etc/passwd"] {
        assert!(session.stat(path).await.is_err(), "{path}");
        assert!(session.list(path, ListOptions::default()).await.is_err(), "{path}");
    }
    for (from, to) in [("up/home", "x"), ("kept/in", "x"), ("kept", "x"), ("inside/in", "x")] {
        assert!(session.rename(from, to).await.is_err(), "{from}");
    }
    assert!(session.create_dir("up/y").await.is_err());
    for denied in [
        session.stat("secret/x").await.map(drop),
        session.delete_file("inside/in").await.map(drop),
        session.delete_dir("kept").await.map(drop),
        session.rename("secret", "open").await.map(drop),
    ] {
        assert_eq!(denied.unwrap_err().kind(), ErrorKind::Denied);
    }
    assert!(matches!(session.stat("../x").await, Err(ToolError::Path { .. })));
    session.delete_file("up").await.unwrap();

    assert!(names(&session, "/tmp").await.contains(&"t".to_owned()));
    session.rename("/tmp/t", "/tmp/d/t").await.unwrap();
    assert_eq!(session.bash("cat /tmp/d/t").await.unwrap().command_stdout(), "t\n");
    assert!(session.rename("/tmp/d/t", "t").await.unwrap_err().message().contains("copy"));
    session.delete_dir("/tmp/d").await.unwrap();
    let whole = session.delete_dir("/").await.unwrap_err();
    assert_eq!(whole.kind(), ErrorKind::InvalidInput, "{whole}");
}

fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_mtime(1_000_000_000);
        let is_link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        // The library itself would refuse the names that are tested.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        if is_link {
            let field = &mut header.as_old_mut().linkname;
            field[..content.len()].copy_from_slice(content.as_bytes());
        }
        let content = if is_link { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[tokio::test]
async fn an_archive_leaves_a_session_and_comes_back_here_and_from_another_process() {
    let fixture = Fixture::new();
    let sessions = open_twice(&fixture).await;
    sessions[0]
        .bash(
            "mkdir -p d/e; echo one > d/one; ln -s ../one d/e/l; chmod +x d/one; mkfifo d/p; \
             head -c 3000000 /dev/urandom > d/e/large",
        )
        .await
        .unwrap();
    for (round, session) in sessions.into_iter().enumerate() {
        let mut exported = Vec::new();
        let report = session.export_tar("d", &mut exported).await.unwrap();
        assert_eq!((report.entries, report.omitted_count), (4, 1), "{report:?}");
        assert_eq!(report.omitted[0].relative_path, "p");
        let mut read = tar::Archive::new(&exported[..]);
        let names = read.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            entry.read_to_end(&mut Vec::new()).unwrap();
            entry.path().unwrap().display().to_string()
        });
        let names: Vec<_> = names.collect();
        assert_eq!(names, ["e/", "one", "e/l", "e/large"].map(|name| name.trim_end_matches(' ')));

        let target = format!("in{round}");
        let limits = TarLimits::default();
        let imported = session.import_tar(&target, &mut &exported[..], limits).await.unwrap();
        assert_eq!((imported.entries, imported.sync.changed.len()), (4, 2), "{imported:?}");
        let compared = format!("rm -f d/p; diff -r d {target} && stat -c %a {target}/one");
        assert_eq!(session.bash(&compared).await.unwrap().command_stdout(), "755\n");
        session.import_tar("/tmp/t", &mut &exported[..], limits).await.unwrap();
        assert_eq!(
            session.bash("cat /tmp/t/one; mkfifo d/p").await.unwrap().command_stdout(),
            "one\n"
        );
        let missing = session.export_tar("none", &mut exported).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_hostile_archive_is_refused_as_a_whole_and_by_name() {
    use tar::EntryType::{Block, Directory, Link, Regular, Symlink};
    let fixture = Fixture::new();
    let session = fixture.open("s1").await;
    session.bash("mkdir full; touch full/x").await.unwrap();
    let import = async |archive: &[u8], limits| {
        session.import_tar("", &mut &archive[..], limits).await.map_err(|error| error.message())
    };
    let good = ("good", Regular, "x");
    for (entry, reason) in [
        (("../x", Regular, "x"), "../x: its name has the component"),
        (("/etc/x", Regular, "x"), "/etc/x: its name is absolute"),
        (("a/../../x", Regular, "x"), "component"),
        (("dev", Block, ""), "dev: it is a device"),
        (("l", Symlink, "/etc/passwd"), "l: it is a symlink that leads out"),
        (("a/l", Symlink, "../../x"), "a/l: it is a symlink that leads out"),
        (("l", Link, "full/x"), "l: it is a link to a file that is not before it"),
        (("full", Regular, "x"), "full: a directory is in the place"),
        (("good/x", Regular, "x"), "good/x: it is below good, which is no directory"),
    ] {
        let refused = import(&archive(&[good, entry]), TarLimits::default()).await.unwrap_err();
        assert!(refused.contains(reason) && refused.contains("nothing was unpacked"), "{refused}");
        assert!(!session.exists("good").await.unwrap(), "{reason}");
    }
    let whole = archive(&[good, ("b", Regular, "content")]);
    for cut in [512, 1024, 1600, 2048] {
        let refused = import(&whole[..cut], TarLimits::default()).await.unwrap_err();
        assert!(refused.contains("nothing was unpacked"), "{cut}: {refused}");
    }
    let (mut few, mut small) = (TarLimits::default(), TarLimits::default());
    (few.max_entries, small.max_bytes) = (1, 7);
    assert!(import(&whole, few).await.unwrap_err().contains("more than 1 entries"));
    assert!(import(&whole, small).await.unwrap_err().contains("more than 7 bytes"));
    assert!(!session.exists("good").await.unwrap());

    let linked = [good, ("d/", Directory, ""), ("d/s", Symlink, "../good"), ("h", Link, "good")];
    import(&archive(&linked), TarLimits::default()).await.unwrap();
    let kept = session.bash("cat d/s h; stat -c %h good; readlink d/s; stat -c %Y good").await;
    assert_eq!(kept.unwrap().command_stdout(), "xx2\n../good\n1000000000\n");
}
