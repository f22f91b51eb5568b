//! The options of the command, and what it prints.

use super::origin::Origin;
use crate::cli::Cli;
use crate::cli::remedies::{bash, remedy};
use crate::mcp::Server;

fn resolve(origin: &Origin) -> String {
    format!("origin.test:80:127.0.0.1:{}", origin.port)
}

#[test]
fn bash_has_a_network_and_another_process_shows_its_connections() {
    let (cli, origin) = (Cli::new(), Origin::start());
    let resolve = resolve(&origin);
    let options = ["bash", "--allow-host", "origin.test:80", "--resolve", &resolve];
    let get = "curl -sSf http://origin.test/; curl -s http://denied.test/x?y >/dev/null; true";
    let ran = cli.run(&[&options[..], &[get]].concat()).ok();
    assert_eq!(ran.stdout, "hello\n");
    let line = "denied: connect denied.test:80: no entry of allowedDomains covers it; use \
                --allow-host denied.test:80 (network.allowedDomains in settings)\n";
    assert_eq!(ran.stderr, line);
    let shown = cli.run(&["session", "show", "default", "--network"]).ok().stdout;
    let rows: Vec<&str> = shown.lines().collect();
    assert!(rows[0].starts_with("TIME ") && rows.len() == 3, "{shown}");
    assert!(rows[1].contains(" allowed  origin.test:80 ") && rows[1].contains(" B "), "{shown}");
    assert!(rows[2].contains(" denied   denied.test:80 "), "{shown}");
    let json = cli.run(&["--json", "session", "show", "default", "--network"]).ok().json();
    let connections = json["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 2);
    assert_eq!(
        (&connections[1]["outcome"], &connections[1]["host"], &connections[1]["port"]),
        (&"denied".into(), &"denied.test".into(), &80.into())
    );
    // Without the option, the session has no network again.
    let ran = cli.run(&["bash", "curl -sS http://origin.test/"]);
    assert!(ran.stderr.contains("the session has no network; use --allow-host origin.test"));
}

#[test]
fn sandbox_has_the_network_of_its_settings_and_options() {
    let (cli, origin) = (Cli::new(), Origin::start());
    let settings = r#"{"network":{"allowedDomains":["origin.test"],"deniedDomains":["no.test"],
        "deniedDomainReasons":{"no.test":"ask Ann"}},
        "filesystem":{"denyRead":[],"allowWrite":[],"denyWrite":[]}}"#;
    let file = cli.write("settings.json", settings);
    let (file, resolve) = (file.to_str().unwrap(), resolve(&origin));
    let web = format!("web=127.0.0.1:{}", origin.port);
    let script = format!(
        "curl -sSf http://origin.test/; curl -sSf http://web.host.internal:{}/; \
         curl -s http://no.test/ >/dev/null; true",
        origin.port
    );
    let options = ["sandbox", "-s", file, "--resolve", &resolve, "--expose", &web, "-c", &script];
    let ran = cli.run(&options).ok();
    assert_eq!(ran.stdout, "hello\nhello\n", "{}", ran.stderr);
    assert!(ran.stderr.contains("denied: connect no.test:80: deniedDomains has no.test: ask Ann"));

    for (setting, problem) in [
        (r#""httpProxyPort":8080"#, "network.httpProxyPort is set"),
        (r#""parentProxy":{"https":"https://p.x"}"#, "network.parentProxy.https is no URL http:"),
    ] {
        let other = settings.replace("\"allowed", &format!("{setting},\"allowed"));
        let file = cli.write("other.json", &other);
        let refused = cli.run(&["sandbox", "-s", file.to_str().unwrap(), "--", "true"]);
        assert_eq!(refused.code, 125);
        assert!(refused.stderr.contains(problem), "{}", refused.stderr);
    }
}

#[test]
fn the_parent_proxy_of_the_settings_connects_a_sandbox() {
    let (cli, proxy, origin) = (Cli::new(), Origin::start(), Origin::start());
    let settings = format!(
        r#"{{"network":{{"allowedDomains":["far.test","origin.test"],"deniedDomains":[],
        "parentProxy":{{"http":"http://127.0.0.1:{}","noProxy":"near.test"}}}},
        "filesystem":{{"denyRead":[],"allowWrite":[],"denyWrite":[]}}}}"#,
        proxy.port
    );
    let file = cli.write("settings.json", &settings);
    let resolve = resolve(&origin);
    // The proxy answers to the whole URL, which is no file of it. A fixed address needs no proxy.
    let get = "curl -s http://far.test/x; curl -sSf http://origin.test/";
    let file = file.to_str().unwrap();
    let ran = cli.run(&["sandbox", "-s", file, "--resolve", &resolve, "-c", get]).ok();
    assert_eq!(ran.stdout, "absent\nhello\n");
    assert_eq!(proxy.requests(), ["GET http://far.test/x HTTP/1.1"]);
}

#[test]
fn a_wrong_option_is_named_before_anything_runs() {
    let cli = Cli::new();
    for (option, value, problem) in [
        ("--allow-host", "localhost", "--expose NAME=HOST:PORT"),
        ("--allow-host", "*", "is not a domain pattern"),
        ("--deny-host", "a b/c", "is not a domain pattern"),
        ("--expose", "db", "expected NAME=HOST:PORT"),
        ("--resolve", "a.test:80:b.test", "ADDRESS is not an IPv4 or IPv6 address"),
        ("--allow-preset", "x", "the presets are debian, github, node, python and rust"),
        ("--allow-host", "https://a.test/x", "write a.test:443"),
        ("--allow-host", "*.192.0.2.1", "covers no host; write 192.0.2.1"),
        ("--allow-host", "a.test b.test", "separate hosts with commas: a.test,b.test"),
        ("--allow-host", "registry:5000", "--expose registry=registry:5000"),
    ] {
        let ran = cli.run(&["bash", option, value, "true"]);
        assert_eq!(ran.code, 2, "{option} {value}: {}", ran.stderr);
        assert!(ran.stderr.contains(problem), "{}", ran.stderr);
    }
}

#[test]
fn blanks_around_the_values_of_a_list_do_not_matter() {
    let cli = Cli::with_environment(&[("AGENT_TOOLS_DENY_HOST", "c.test, d.test")]);
    let lists = ["--allow-host", "a.test, b.test", "--expose", "web=127.0.0.1:1, db=127.0.0.1:2"];
    let options = [&["policy", "show"], &lists[..], &["--allow-preset", " github"]].concat();
    let network = cli.run(&options).ok().json()["network"].take();
    let allowed: Vec<&str> =
        network["allowedDomains"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    assert_eq!(allowed[..2], ["a.test", "b.test"]);
    for host in ["github.com:443", "web.host.internal:1", "db.host.internal:2"] {
        assert!(allowed.contains(&host), "{allowed:?}");
    }
    assert_eq!(network["deniedDomains"], serde_json::json!(["c.test", "d.test"]));
}

#[test]
fn only_the_caller_and_the_home_fix_the_address_of_a_name() {
    let (cli, origin) = (Cli::with_environment(&[("AGENT_TOOLS_RESOLVE", "x")]), Origin::start());
    let options = ["bash", "--allow-host", "origin.test:80"];
    let get = "curl -sSf http://origin.test/";
    // The home, unless the caller names addresses. No variable counts.
    let home = cli.home().join("agent-tools.toml");
    let configure = |text: &str| testkit::write_file(&cli.home(), "agent-tools.toml", text);
    configure(&format!("resolve = [\"{}\"]\n", resolve(&origin)));
    assert_eq!(cli.run(&[&options[..], &[get]].concat()).ok().stdout, "hello\n");
    let other = ["--resolve", "origin.test:80:127.0.0.1:1", get];
    assert_ne!(cli.run(&[&options[..], &other].concat()).code, 0);
    configure("resolve = [\"origin.test\"]\n");
    let wrong = cli.run(&["bash", "true"]);
    assert_eq!(wrong.code, 125);
    assert!(wrong.stderr.contains("agent-tools.toml:1: "), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("expected NAME:PORT:ADDRESS[:PORT]"), "{}", wrong.stderr);
    std::fs::remove_file(home).unwrap();

    // Neither settings, nor a project, nor an argument of a tool.
    let address = format!("[\"{}\"]", resolve(&origin));
    let settings = format!(
        r#"{{"network":{{"allowedDomains":[],"deniedDomains":[],"resolve":{address}}},
        "filesystem":{{"denyRead":[],"allowWrite":[],"denyWrite":[]}}}}"#
    );
    let file = cli.write("settings.json", &settings);
    let refused = cli.run(&["bash", "--policy", file.to_str().unwrap(), "true"]);
    assert_eq!(refused.code, 125);
    assert!(refused.stderr.contains("resolve"), "{}", refused.stderr);
    let project = cli.write(".agent-tools.toml", &format!("resolve = {address}\n"));
    let refused = cli.run(&["bash", "true"]);
    assert_eq!(refused.code, 125);
    let problem = ".agent-tools.toml:1: a project can only restrict, not set `resolve`";
    assert!(refused.stderr.contains(problem), "{}", refused.stderr);
    std::fs::remove_file(project).unwrap();
    let mut server = Server::start_with(&cli, &["mcp", "--allow-host", "origin.test:80"]);
    let arguments = serde_json::json!({"command": get, "resolve": [resolve(&origin)]});
    let answer = server.call("bash", arguments);
    assert_eq!(answer["isError"], true, "{answer}");
    assert!(answer["content"][0]["text"].as_str().unwrap().contains("`resolve`"), "{answer}");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_address_of_a_name_that_is_not_allowed_is_reported_once() {
    let cli = Cli::new();
    let at = ["--resolve", "a.test:443:127.0.0.1:8443"];
    let warning = "agent-tools: warning: the policy does not allow a.test:443, so a fixed address \
                   has no effect; use --allow-host a.test:443 (network.allowedDomains in \
                   settings)\n";
    let run = |command: &str, options: &[&str]| {
        cli.run(&[&[command], &at[..], options, &["true"]].concat()).ok().stderr
    };
    assert_eq!(run("bash", &[]), warning);
    assert_eq!(run("bash", &[]), "");
    assert_eq!(run("bash", &["--allow-host", "a.test:443"]), "");
    assert_eq!(run("bash", &["--allow-host", "a.test:80"]), warning);
    assert_eq!(run("sandbox", &[]), warning);
    let denied = run("sandbox", &["--allow-host", "a.test:443", "--deny-host", "*"]);
    assert!(denied.contains("no effect; leave out --deny-host '*', or remove"), "{denied}");
    assert_eq!(run("sandbox", &["--allow-host", "a.test"]), "");
    // A project leaves no network, whatever the options are.
    cli.write(".agent-tools.toml", "no-network = true\n");
    let script = "curl -sS http://127.0.0.1:3128/; true";
    let options = ["sandbox", "--allow-host", "a.test", "--resolve", at[1], "-c", script];
    let ran = cli.run(&options).ok().stderr;
    assert!(ran.contains("warning: no-network in ") && !ran.contains("policy does not"), "{ran}");
    assert!(ran.contains("127.0.0.1") && !ran.contains("403"), "{ran}");
}

#[test]
fn explain_answers_for_a_host_and_a_port() {
    let cli = Cli::new();
    let explain = |options: &[&str], target: &str| {
        let arguments = [&["policy", "explain"], options, &[target]].concat();
        cli.run(&arguments).ok().stdout
    };
    let none = explain(&[], "a.test:443");
    assert!(none.contains("connect: denied: the session has no network\n"), "{none}");
    let remedy = "to allow it, use --allow-host a.test:443 (network.allowedDomains in settings)\n";
    assert!(none.contains(remedy), "{none}");
    let allow = ["--allow-host", "*.a.test:443"];
    let rule = "connect: allowed: allowedDomains has *.a.test:443\n";
    assert!(explain(&allow, "b.a.test:443").contains(rule));
    let unlisted = "connect: denied: no entry of allowedDomains covers it\n";
    assert!(explain(&allow, "b.a.test:80").contains(unlisted));
    assert!(explain(&allow, "169.254.169.254:80").contains(unlisted));
    assert!(explain(&allow, "localhost:80").contains("allowed: each session has a loopback"));
    let shown = cli.run(&["policy", "show", "--allow-host", "a.test", "--deny-host", "b.test"]);
    let shown = shown.ok().json();
    assert_eq!(shown["network"]["allowedDomains"], serde_json::json!(["a.test"]));
    assert_eq!(shown["network"]["deniedDomains"], serde_json::json!(["b.test"]));
}

#[test]
fn the_weaker_engine_says_everywhere_that_it_has_no_network() {
    let engine = ["--engine", "landlock", "--accept", "inner-rules,signals,attributes"];
    let cli = Cli::new();
    let run = |arguments: &[&str]| cli.run(&[&engine[..], arguments].concat());
    let examined = run(&["doctor"]).stdout;
    if !examined.contains("\n  network       full\n") {
        return testkit::skipped("the engine landlock", "a kernel with Landlock");
    }
    let capture = "none: sessions without namespaces have no network; use the engine `native`\n";
    assert!(examined.contains(capture), "{examined}");
    let explained = run(&["policy", "explain", "a.test:443"]).ok().stdout;
    let denied =
        "connect: denied: the session has no network\n    to allow it, use --engine native";
    assert!(explained.contains(denied), "{explained}");
    let ran = run(&["bash", "curl -sS http://a.test/"]);
    let denied = "hint: connect a.test: the session has no network; use --engine native";
    assert!(ran.stderr.contains(denied), "{}", ran.stderr);
    for command in ["bash", "sandbox"] {
        let refused = run(&[command, "--allow-host", "a.test", "true"]);
        assert_eq!(refused.code, 125, "{}", refused.stderr);
        let remedy = "leave it empty, or use the engine `native`";
        assert!(refused.stderr.contains(remedy), "{}", refused.stderr);
    }
}

#[test]
fn presets_read_the_configuration_of_the_tools() {
    let cli = Cli::new();
    cli.write(".cargo/config.toml", "[registries.own]\nindex = \"sparse+https://own.test/i/\"\n");
    let shown = cli.run(&["policy", "show", "--allow-preset", "rust,github"]).ok().json();
    let hosts = shown["network"]["allowedDomains"].as_array().unwrap();
    assert!(hosts.contains(&"own.test:443".into()), "{hosts:?}");
    assert!(hosts.contains(&"github.com:443".into()), "{hosts:?}");
    let empty = Cli::new().run(&["policy", "show", "--allow-preset", "rust"]);
    assert_ne!(empty.code, 0, "{}", empty.stderr);
    let problem = "the preset rust finds no host: cargo has no configured registry";
    assert!(empty.stderr.contains(problem), "{}", empty.stderr);

    // The options that a refused host needs are those of all hosts.
    cli.write(
        ".cargo/config.toml",
        "[registries.one]\nindex = \"sparse+http://registry:8080/i/\"\n\
         [registries.two]\nindex = \"sparse+https://own.test/i/\"\n",
    );
    let refused = cli.run(&["policy", "show", "--allow-preset", "rust"]);
    let options = "--expose registry=registry:8080 --allow-host own.test:443";
    assert!(refused.stderr.contains(options), "{}", refused.stderr);
    let options: Vec<&str> = options.split(' ').collect();
    let shown = cli.run(&[&["policy", "show"], &options[..]].concat()).ok().json();
    let hosts = ["own.test:443", "registry.host.internal:8080"];
    assert_eq!(shown["network"]["allowedDomains"], serde_json::json!(hosts));
}

#[test]
fn questions_need_a_terminal() {
    let cli = Cli::new();
    let mut command = std::process::Command::new("setsid");
    let inner = cli.command(&["bash", "--ask", "true"]);
    command.arg("-w").arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let Ok(output) = command.output() else {
        return testkit::skipped("setsid", "install util-linux");
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("--ask needs a terminal"), "{stderr}");
}

#[test]
fn the_options_that_allow_a_host_give_a_session_its_network() {
    let (cli, origin) = (Cli::new(), Origin::start());
    let resolve = format!("--resolve {}", resolve(&origin));
    let get = "curl -sSf http://origin.test/";
    let opened = remedy(&cli, "", get);
    let option = opened.strip_prefix("use ").unwrap().split(" (network.").next().unwrap();
    assert_eq!(bash(&cli, &format!("{option} {resolve}"), get).ok().stdout, "hello\n", "{opened}");
    // If only the engine knows, the user names the host.
    let silent = format!("{get} 2> /dev/null");
    let opened = remedy(&cli, "", &silent);
    let option = opened.split_once("to allow a host, use ").unwrap().1;
    let option = option.split(" (network.").next().unwrap().replace("HOST", "origin.test");
    assert_eq!(bash(&cli, &format!("{option} {resolve}"), &silent).ok().stdout, "hello\n");
}

#[test]
fn a_remedy_names_the_place_that_has_the_list_of_hosts() {
    let mut cli = Cli::new();
    let lists = "allow-host = [\"a.test:80\"]\ndeny-host = [\"no.test\"]\n";
    let file = testkit::write_file(&cli.home(), "agent-tools.toml", lists);
    let add = |entry: &str| {
        let settings = "(network.allowedDomains in settings)";
        format!("add {entry} to `allow-host` in {} {settings}\n", file.display())
    };
    let ran = cli.run(&["bash", "curl -s http://b.test/; true"]).ok();
    assert!(ran.stderr.ends_with(&format!("; {}", add("b.test:80"))), "{}", ran.stderr);
    let explain = |cli: &Cli, options: &[&str], target: &str| {
        let arguments = [&["policy", "explain"], options, &[target]].concat();
        cli.run(&arguments).ok().stdout
    };
    let explained = explain(&cli, &[], "b.test:80");
    assert!(explained.contains(&format!("to allow it, {}", add("b.test:80"))), "{explained}");
    let explained = explain(&cli, &[], "no.test:80");
    let remove = format!("remove no.test from `deny-host` in {}, or from", file.display());
    assert!(explained.contains(&remove), "{explained}");
    // The list of the command line replaces that of the file, and another option joins it.
    let explained = explain(&cli, &["--allow-host", "c.test"], "b.test:80");
    assert!(explained.contains("use --allow-host b.test:80 "), "{explained}");
    cli.run_with(&["variable", "set", "KEY", "--host", "m.test:443"], "a long secret value").ok();
    let warned = cli.run(&["bash", "true"]).ok().stderr;
    let warning = format!("none of its hosts is allowed; {}", add("m.test:443"));
    assert!(warned.contains(warning.split(" (").next().unwrap()), "{warned}");
    for (name, value) in
        [("AGENT_TOOLS_ALLOW_HOST", "d.test"), ("AGENT_TOOLS_DENY_HOST", "no.test")]
    {
        cli.environment.push((name.to_owned(), value.to_owned()));
    }
    let explained = explain(&cli, &[], "b.test:80");
    assert!(explained.contains("add b.test:80 to AGENT_TOOLS_ALLOW_HOST "), "{explained}");
    let explained = explain(&cli, &[], "no.test:80");
    assert!(explained.contains("remove no.test from AGENT_TOOLS_DENY_HOST, or"), "{explained}");
}
