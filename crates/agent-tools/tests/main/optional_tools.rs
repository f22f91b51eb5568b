//! The optional tools, and the toolset with the names of another agent.

use std::sync::Arc;

use agent_tools::{
    CallOptions, Edit, FindOptions, GrepOptions, Occurrences, OptionalTool, Session,
    SessionsBuilder, ToolContent, ToolSelection, Toolset,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Token};

fn with_all(builder: SessionsBuilder) -> SessionsBuilder {
    let tools = OptionalTool::all().fold(ToolSelection::default(), ToolSelection::with);
    builder.variables(Arc::new(Token)).tools(tools)
}

async fn paths(session: &Session, input: Value) -> String {
    let found = session.call("listFiles", input).await.unwrap();
    let files = found["files"].as_array().unwrap();
    let names: Vec<&str> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
    names.join(" ")
}

async fn error(session: &Session, tool: &str, input: Value) -> String {
    session.call(tool, input).await.unwrap_err().message()
}

#[tokio::test]
async fn files_are_edited_listed_and_searched_within_the_policy() {
    let fixture = Fixture::with(with_all);
    let session = fixture.open("s1").await;
    let made = session
        .bash(
            "mkdir -p src/deep target .git; printf 'one\\ntwo\\ntwo\\n' > src/a.rs; \
             echo key=$TOKEN > src/deep/b.rs; echo two > target/c; echo two > .git/config; \
             echo target > .gitignore; ln -s /etc out; ln -s src/a.rs link; chmod 640 src/a.rs; \
             echo two > /tmp/t; mkfifo src/pipe",
        )
        .await
        .unwrap();
    assert_eq!(made.exit_code, 0, "{}", made.stderr);

    assert_eq!(paths(&session, json!({})).await, {
        ".gitignore link out src src/a.rs src/deep src/deep/b.rs src/pipe"
    });
    assert_eq!(paths(&session, json!({ "pattern": "**/*.rs" })).await, "src/a.rs src/deep/b.rs");
    assert_eq!(paths(&session, json!({ "path": "src", "pattern": "*.rs" })).await, "src/a.rs");
    assert!(paths(&session, json!({ "includeIgnored": true })).await.contains("target/c"));
    let page = session.call("listFiles", json!({ "limit": 2 })).await.unwrap();
    assert_eq!(page["nextAfter"], "link");
    let next = json!({ "after": "link", "limit": 2 });
    assert_eq!(paths(&session, next).await, "out src");
    assert_eq!(paths(&session, json!({ "path": "/tmp", "pattern": "t" })).await, "/tmp/t");
    assert!(error(&session, "listFiles", json!({ "path": "out" })).await.contains("leads out of"));
    assert!(error(&session, "listFiles", json!({ "path": "../x" })).await.contains("leads out of"));
    assert!(error(&session, "listFiles", json!({ "pattern": "[" })).await.contains("listFiles: "));

    let found = session.search_files(&GrepOptions::new("two|key")).await.unwrap();
    let expected = "src/a.rs:2:two\nsrc/a.rs:3:two\nsrc/deep/b.rs:1:key=[redacted:TOKEN]\n";
    assert_eq!(found.text(), expected);
    assert_eq!(found.redacted, ["TOKEN"]);
    let one = json!({ "pattern": "TWO", "ignoreCase": true, "path": "/tmp/t" });
    let one = session.call("grep", one).await.unwrap();
    assert_eq!(one["lines"], json!([{ "path": "/tmp/t", "line": 1, "text": "two" }]));
    assert!(error(&session, "grep", json!({ "pattern": "(" })).await.starts_with("grep: "));

    let edit = json!({ "path": "src/a.rs", "oldString": "two", "newString": "2" });
    let ambiguous = error(&session, "editFile", edit.clone()).await;
    assert!(ambiguous.contains("occurs 2 times, in the lines 2, 3;"), "{ambiguous}");
    let mut all = edit;
    all["replaceAll"] = json!(true);
    let edited = session.call("editFile", all).await.unwrap();
    assert_eq!((&edited["line"], &edited["replacements"]), (&json!(2), &json!(2)));
    assert!(edited["key"].as_str().unwrap().ends_with("sessions/s1/src/a.rs"), "{edited}");
    let state = session.bash("cat src/a.rs; stat -c %a src/a.rs").await.unwrap();
    assert_eq!(state.command_stdout(), "one\n2\n2\n640\n");
    let redacted =
        json!({ "path": "src/deep/b.rs", "oldString": "key=[redacted:TOKEN]", "newString": "" });
    let refused = error(&session, "editFile", redacted).await;
    assert!(refused.contains("stands for the value of a variable"), "{refused}");
    let read = session.call("readFile", json!({ "path": "src/deep/b.rs" })).await.unwrap();
    let back = json!({ "path": "src/deep/b.rs", "content": read["content"] });
    let refused = error(&session, "writeFile", back).await;
    assert!(refused.contains("[redacted:TOKEN], which only stands for"), "{refused}");
    session.write_file("doc", b"an [redacted:X]").await.unwrap();
    let same = json!({ "path": "doc", "content": "the [redacted:X]" });
    session.call("writeFile", same).await.unwrap();
    let outward = json!({ "path": "out/passwd", "oldString": "root", "newString": "" });
    assert!(error(&session, "editFile", outward).await.contains("leads out of"));
}

async fn searched(session: &Session, input: Value) -> String {
    let options: GrepOptions = serde_json::from_value(input).unwrap();
    session.search_files(&options).await.unwrap().text()
}

#[tokio::test]
async fn a_glob_without_a_slash_finds_files_at_any_depth_and_one_without_files_is_named() {
    let fixture = Fixture::with(with_all);
    let session = fixture.open("s1").await;
    let made = "mkdir -p src/a; echo beta > src/a/x.rs; echo beta > y.rs; echo beta > src/z.md";
    session.bash(made).await.unwrap();
    let found = async |glob: &str, path: &str| {
        searched(&session, json!({ "pattern": "beta", "glob": glob, "path": path })).await
    };
    assert_eq!(found("*.rs", ".").await, "src/a/x.rs:1:beta\ny.rs:1:beta\n");
    assert_eq!(found("x.rs", "src").await, "src/a/x.rs:1:beta\n");
    assert_eq!(found("src/*.md", ".").await, "src/z.md:1:beta\n");
    assert_eq!(found("a/*.md", ".").await, "no file matches the glob a/*.md\n");
    let none = json!({ "pattern": "alpha", "glob": "*.rs" });
    assert_eq!(searched(&session, none).await, "no line matches\n");
    let mut options = FindOptions::default();
    options.pattern = Some("*.md".into());
    let listed = session.find_files(&options).await.unwrap();
    let note = "*.md is searched in one directory; **/*.md searches those below it too";
    assert_eq!(listed.text(), format!("no files match\nnote: {note}\n"));
    options.pattern = Some("**/*.c".into());
    assert_eq!(session.find_files(&options).await.unwrap().note, None);
}

#[tokio::test]
async fn a_glob_that_ignored_files_alone_match_tells_how_to_search_them() {
    let fixture = Fixture::with(with_all);
    let session = fixture.open("s1").await;
    let made = "mkdir -p out/deep; echo beta > out/deep/a.log; echo out > .gitignore; echo x > f";
    session.bash(made).await.unwrap();
    let found = searched(&session, json!({ "pattern": "beta", "glob": "*.log" })).await;
    assert_eq!(
        found,
        "no file matches the glob *.log\nnote: ignored files match the glob, and were left out; \
         with includeIgnored, .git and the files that .gitignore excludes are searched too\n"
    );
    let all = json!({ "pattern": "beta", "glob": "*.log", "includeIgnored": true });
    assert_eq!(searched(&session, all).await, "out/deep/a.log:1:beta\n");
    let none = json!({ "pattern": "beta", "glob": "*.c" });
    assert_eq!(searched(&session, none).await, "no file matches the glob *.c\n");
    let lines = json!({ "pattern": "beta[\\r\\n]+", "path": "out/deep/a.log" });
    assert_eq!(searched(&session, lines).await, "out/deep/a.log:1:beta\n");
}

#[tokio::test]
async fn files_that_are_not_searched_or_edited_are_named_with_the_reason_and_a_remedy() {
    let fixture = Fixture::with(with_all);
    let session = fixture.open("s1").await;
    let made = "printf 'bin\\0beta\\n' > bin; cp bin bin2; mkfifo ff; ln -s loop loop; \
                printf '\\377\\376b\\0e\\0t\\0a\\0\\r\\0\\n\\0' > u16; truncate -s 40000000 large";
    session.bash(made).await.unwrap();
    let found =
        async |path: &str| searched(&session, json!({ "pattern": "beta$", "path": path })).await;
    let note = "no line matches\nnote: bin is binary and was not searched\n";
    assert_eq!(found("bin").await, note);
    assert_eq!(found("u16").await, "u16:1:beta\n");
    let notes = "note: not searched: 1 file above 32 MiB\nnote: not searched: 2 binary files\n";
    assert_eq!(found(".").await, format!("u16:1:beta\n{notes}"));
    for (path, problem) in [
        ("ff", "grep: ff: it is a FIFO, not a regular file or a directory"),
        ("loop", "loop leads into a loop of symlinks"),
        (
            "large",
            "grep: large has 40000000 bytes, and files of at most 32 MiB are searched; use bash \
             with grep",
        ),
    ] {
        let input = json!({ "pattern": "beta", "path": path });
        assert_eq!(error(&session, "grep", input).await, problem);
    }
    let edit = json!({ "path": "large", "oldString": "a", "newString": "b" });
    let refused = error(&session, "editFile", edit).await;
    assert!(refused.starts_with("editFile: large has 40000000 bytes, "), "{refused}");
    assert!(refused.ends_with("use bash with sed or another program"), "{refused}");
}

#[tokio::test]
async fn binary_content_with_a_placeholder_is_named_and_cannot_be_written() {
    let fixture = Fixture::with(with_all);
    let session = fixture.open("s1").await;
    let made = "printf 'caf\\351 key=%s\\n' $TOKEN > latin.ini; printf '\\0[redacted:X]' > doc";
    session.bash(made).await.unwrap();
    let read = session.read_file("latin.ini").await.unwrap();
    let note = "[the content has [redacted:NAME] for values of variables: TOKEN; ";
    assert!(read.text().contains(note), "{}", read.text());
    let write = async |path: &str, content: &[u8]| {
        let content = STANDARD.encode(content);
        let input = json!({ "path": path, "content": content, "encoding": "base64" });
        session.call("writeFile", input).await.map_err(|error| error.message())
    };
    let content = STANDARD.decode(&read.content).unwrap();
    let wide: Vec<u8> = "a [redacted:T]".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (path, content) in [("latin.ini", &content), ("new", &wide)] {
        let refused = write(path, content).await.unwrap_err();
        assert!(refused.contains(", which only stands for the value"), "{refused}");
    }
    write("doc", b"\xff[redacted:X]").await.unwrap();
    let kept = session.bash("grep -c key=$TOKEN latin.ini; ls").await.unwrap();
    assert_eq!(kept.command_stdout(), "1\ndoc\nlatin.ini\n");
}

#[tokio::test]
async fn another_process_runs_the_optional_tools_in_the_one_that_serves_the_session() {
    let fixture = Fixture::with(with_all);
    let serving = fixture.open("s1").await;
    serving.write_file("f", b"a b").await.unwrap();
    let other = fixture.other_process();
    let client = other.open(crate::session::spec("s1")).await.unwrap();
    assert!(client.is_served_elsewhere());
    let edit = Edit { old: "a".into(), new: "x".into(), occurrences: Occurrences::One };
    assert_eq!(client.edit_file("f", &edit).await.unwrap().line, 1);
    let files = client.find_files(&FindOptions::default()).await.unwrap().files;
    assert_eq!((files[0].path.as_str(), files[0].size), ("f", 3));
    let found = client.search_files(&GrepOptions::new("x b")).await.unwrap();
    assert_eq!((found.files, found.text().as_str()), (1, "f:1:x b\n"));
}

#[tokio::test]
async fn files_that_the_policy_hides_are_neither_listed_nor_searched() {
    let fixture = Fixture::with(with_all);
    let mut spec = crate::session::spec("s1");
    let settings = r#"{ "filesystem": { "denyRead": ["hidden"], "allowWrite": [], "denyWrite": [] },
                        "network": { "allowedDomains": [], "deniedDomains": [] } }"#;
    let dir = fixture.dir.path().canonicalize().unwrap().join("home/sessions/s1/hidden");
    let settings = settings.replace("\"hidden\"", &format!("{:?}", dir.to_str().unwrap()));
    spec.policy = Some(agent_tools::policy::SandboxRuntimeConfig::from_json(&settings).unwrap());
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("f"), "two").unwrap();
    let session = fixture.sessions.open(spec).await.unwrap();
    session.write_file("seen", b"two").await.unwrap();
    assert_eq!(paths(&session, json!({})).await, "seen");
    let found = session.search_files(&GrepOptions::new("two")).await.unwrap();
    assert_eq!(found.text(), "seen:1:two\n");
    let edit = json!({ "path": "hidden/f", "oldString": "two", "newString": "" });
    assert!(error(&session, "editFile", edit).await.contains("denies reading"));
}

#[tokio::test]
async fn the_toolset_of_anthropic_has_its_names_and_inputs() {
    let fixture = Fixture::with(|builder| builder.tools(ToolSelection::of(Toolset::Anthropic)));
    let session = fixture.open("s1").await;
    let names: Vec<&str> = session.tools().iter().map(|tool| tool.name).collect();
    assert_eq!(names, ["bash", "read", "write", "edit", "glob", "grep"]);
    let call = async |tool: &str, input: Value| session.call(tool, input).await.unwrap();
    let written = call("write", json!({ "file_path": "d/f", "content": "1\n2\n3\n" })).await;
    assert_eq!(written["success"], true);
    let part = call("read", json!({ "file_path": "d/f", "view_range": [2, -1] })).await;
    assert_eq!(part["content"], "2\n3\n");
    let edit = json!({ "file_path": "d/f", "old_string": "2", "new_string": "x" });
    assert_eq!(call("edit", edit).await["line"], 2);
    let ran = call("bash", json!({ "command": "cat d/f; exit 3", "timeout_ms": 60_000 })).await;
    assert_eq!((&ran["stdout"], &ran["exitCode"]), (&json!("1\nx\n3\n"), &json!(3)));
    assert_eq!(call("bash", json!({ "restart": true })).await, json!({}));
    session.bash("touch -d '2 days ago' old; touch new").await.unwrap();
    let found = call("glob", json!({ "pattern": "**" })).await;
    assert_eq!(found["files"][2]["path"], "old", "{found}");
    let found = call("grep", json!({ "pattern": "^x$" })).await;
    assert_eq!(found["lines"][0]["path"], "d/f");
    session.bash("seq 20000 > long; head -c 40000 /dev/zero | tr '\\0' a > line").await.unwrap();
    for (file, rest) in [("long", "continue with view_range ["), ("line", "bash: tail -c +30001 ")]
    {
        let input = json!({ "file_path": file });
        let read = session.call_with("read", input, CallOptions::default()).await.unwrap();
        let ToolContent::Text(text) = read.content else { panic!("{file} is text") };
        assert!(text.contains(rest), "{}", &text[text.len() - 200..]);
    }
    let edit =
        |old: &str, new: &str| json!({ "file_path": "d/f", "old_string": old, "new_string": new });
    for (tool, input, problem) in [
        ("bash", json!({}), "give `command`, or `restart`"),
        ("read", json!({ "path": "d/f" }), "unknown field `path`"),
        ("edit", json!({ "file": "d/f" }), "unknown field `file`, expected one of `file_path`, `o"),
        ("read", json!({ "file_path": "d/f", "view_range": [0, 1] }), "begins with 1"),
        ("readFile", json!({}), "readFile"),
        ("edit", edit("", "x"), "edit: d/f: old_string is empty; write the whole"),
        ("edit", edit("\n", "x"), "or set replace_all"),
        ("read", json!({ "file_path": "d/f", "view_range": [9, 9] }), "d/f: line 9 is past"),
        ("glob", json!({ "pattern": "[" }), "glob: "),
    ] {
        let message = error(&session, tool, input).await;
        assert!(message.contains(problem), "{tool}: {message}");
    }
}
