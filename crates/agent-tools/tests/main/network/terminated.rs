//! Real programs whose TLS the gate terminates, and the search for a secret value in all that they
//! and the home have.

use std::path::Path;

use testkit::skipped;

use super::secure_origin::SecureOrigin;
use crate::cli::{Cli, Ran};

pub(super) const VALUE: &str = "sk-live-CANARYCANARYCANARY0123456789abcdef";

/// Returns a home with the masked variable `KEY` for `origin.test`.
pub(super) fn home(origin: &SecureOrigin) -> Cli {
    let certificate = origin.certificate();
    let cli = Cli::with_environment(&[
        ("AGENT_TOOLS_SECRET", "a passphrase"),
        // The certificates that the gate itself trusts.
        ("SSL_CERT_FILE", certificate.to_str().unwrap()),
        ("AGENT_TOOLS_LOG", "trace"),
    ]);
    let set = ["variable", "set", "KEY", "--encrypted", "--host", "origin.test:443"];
    cli.run_with(&set, VALUE).ok();
    cli
}

/// Runs a script with the addresses of the server. Neither its output nor the log has the value.
fn run(cli: &Cli, origin: &SecureOrigin, options: &[&str], script: &str) -> Ran {
    let at = |name: &str| format!("{name}:443:127.0.0.1:{}", origin.port);
    let (own, other) = (at("origin.test"), at("other.test"));
    let bash = ["--json", "bash", "--resolve", &own, "--resolve", &other];
    let ran = cli.run(&[&bash[..], options, &[script]].concat());
    assert!(!ran.stdout.contains(VALUE), "{}", ran.stdout);
    assert!(!ran.stderr.contains(VALUE), "the log has the value");
    ran
}

/// One program after the other, each with its own `User-Agent` and a name that says so.
const PROGRAMS: [(&str, &str); 7] = [
    (
        "curl",
        "curl -sSf -A curl -H \"authorization: Bearer $KEY\" \"https://origin.test/?key=$KEY\"",
    ),
    ("wget", "wget -qO- -U wget --header \"authorization: Bearer $KEY\" https://origin.test/"),
    (
        "python3",
        "python3 -c 'import os, urllib.request as r\n\
         key = \"Bearer \" + os.environ[\"KEY\"]\n\
         headers = {\"user-agent\": \"python3\", \"authorization\": key}\n\
         print(r.urlopen(r.Request(\"https://origin.test/\", headers=headers)).read().decode())'",
    ),
    (
        "node",
        "node -e 'fetch(\"https://origin.test/\", {headers: {\"user-agent\": \"node\", \
         authorization: \"Bearer \" + process.env.KEY}}).then(async answer => \
         console.log(await answer.text()), error => { console.error(error); process.exit(1) })'",
    ),
    (
        "openssl",
        "printf 'GET / HTTP/1.1\\r\\nHost: origin.test\\r\\nUser-Agent: openssl\\r\\n\
         Authorization: Bearer %s\\r\\nConnection: close\\r\\n\\r\\n' $KEY | openssl s_client \
         -quiet -verify_return_error -connect origin.test:443 -servername origin.test",
    ),
    (
        "java",
        "cat > Get.java <<'END'\n\
         import java.net.URI;\n\
         import java.net.http.*;\n\
         class Get { public static void main(String[] a) throws Exception {\n\
         var request = HttpRequest.newBuilder(URI.create(\"https://origin.test/\"))\n\
         .header(\"user-agent\", \"java\")\n\
         .header(\"authorization\", \"Bearer \" + System.getenv(\"KEY\")).build();\n\
         var client = HttpClient.newHttpClient();\n\
         var answer = client.send(request, HttpResponse.BodyHandlers.ofString());\n\
         System.out.println(answer.body()); } }\n\
         END\n\
         java -Xshare:auto -XX:TieredStopAtLevel=1 Get.java",
    ),
    ("git", "git clone -q https://x:$KEY@origin.test/r.git clone && git -C clone log --format=%s"),
];

/// Searches the environment and the memory of every process for the value, of which the pattern is
/// no copy.
const SEARCH: &str = r"
import glob, re
pattern = re.compile(rb'[s]k-live-(?:CANARY){3}0123')
searched, found = set(), []
for process in glob.glob('/proc/[0-9]*'):
    try:
        if pattern.search(open(process + '/environ', 'rb').read()):
            found.append(process + '/environ')
        maps = open(process + '/maps').read().split('\n')
        with open(process + '/mem', 'rb', 0) as memory:
            for line in maps:
                if ' r' not in line or '[v' in line:
                    continue
                start, end = (int(part, 16) for part in line.split(' ')[0].split('-'))
                try:
                    memory.seek(start)
                    if pattern.search(memory.read(end - start)):
                        found.append(process + ' ' + line)
                    searched.add(process)
                except OSError:
                    pass
    except OSError:
        pass
print('searched', len(searched) > 1, found)
";

#[test]
fn every_program_uses_a_key_that_no_process_and_no_file_has() {
    let Some(origin) = SecureOrigin::start() else {
        return skipped("TLS with masked variables", "install openssl and python3");
    };
    assert!(origin.add_repository());
    let cli = home(&origin);
    let mut script = String::from("exec 2>&1\nsleep 100 & \n");
    for (program, command) in PROGRAMS {
        script += &format!(
            "if command -v {program} >/dev/null; then {command}\necho \"{program} $?\"; \
             else echo {program} absent; fi\n"
        );
    }
    // Programs that save what they know.
    script += "curl -sS -o answer -D headers -H \"x-key: $KEY\" https://origin.test/\n";
    script += "env > environment; cat > search.py <<'END'\n";
    script += SEARCH;
    script += "END\nKEEP=$KEY python3 search.py; kill %1";
    let result = run(&cli, &origin, &["--allow-host", "origin.test:443"], &script).json();
    let stdout = result["stdout"].as_str().unwrap();
    let requests = origin.requests();
    for (program, _) in PROGRAMS {
        if stdout.contains(&format!("{program} absent")) {
            skipped(program, "install it");
            continue;
        }
        assert!(stdout.contains(&format!("{program} 0\n")), "{program}: {stdout}");
        if program == "git" {
            let is_basic = |request: &serde_json::Value| {
                request["headers"]["authorization"]
                    .as_str()
                    .is_some_and(|it| it.starts_with("Basic"))
            };
            assert!(requests.iter().any(is_basic), "{requests:?}");
            continue;
        }
        let own = requests.iter().find(|request| request["headers"]["user-agent"] == program);
        let own = own.unwrap_or_else(|| panic!("{program}: {stdout}"));
        assert_eq!(own["headers"]["authorization"], format!("Bearer {VALUE}"), "{program}");
    }
    let curl = requests.iter().find(|request| request["headers"]["user-agent"] == "curl").unwrap();
    assert_eq!(curl["path"], format!("/?key={VALUE}"));
    assert!(stdout.contains("searched True []"), "{stdout}");

    let shown = cli.run(&["session", "show", "default", "--network"]).ok().stdout;
    assert!(shown.contains(" masked   origin.test:443 "), "{shown}");
    assert!(shown.contains("the value of KEY was inserted") && !shown.contains(VALUE), "{shown}");
    let listed = cli.run(&["variable", "list"]).ok().stdout;
    assert_eq!(listed, "KEY (encrypted) (masked for origin.test:443)\n");
    assert_eq!(with_text(cli.dir(), VALUE), Vec::<String>::new());
}

/// Returns the files below a directory that contain a text.
pub(super) fn with_text(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(with_text(&path, text));
        } else if let Ok(content) = std::fs::read(&path)
            && content.windows(text.len()).any(|part| part == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn requests_reads_its_own_certificates_and_trusts_the_gate() {
    let Some(venv) = std::env::var_os("PEERS_PYTHON_DIR") else {
        return skipped("requests with certifi", "set PEERS_PYTHON_DIR");
    };
    let Some(origin) = SecureOrigin::start() else {
        return skipped("TLS with masked variables", "install openssl and python3");
    };
    let mut cli = home(&origin);
    let venv = venv.into_string().unwrap();
    cli.environment.push(("AGENT_TOOLS_PYTHON_VENV".to_owned(), venv.clone()));
    let script = "python -c 'import certifi, os, requests\n\
                  assert certifi.where() != os.environ[\"REQUESTS_CA_BUNDLE\"]\n\
                  headers = {\"authorization\": \"Bearer \" + os.environ[\"KEY\"]}\n\
                  print(requests.get(\"https://origin.test/\", headers=headers).status_code)'";
    // The interpreter may be in the home directory of the user.
    let python = Path::new(&venv).join("bin/python").canonicalize().unwrap();
    let installation = python.parent().unwrap().parent().unwrap().to_str().unwrap();
    let options = ["--allow-host", "origin.test:443", "--allow-read", installation];
    let ran = run(&cli, &origin, &options, script).json();
    assert_eq!(ran["stdout"], "200\n", "{ran}");
    assert_eq!(origin.requests()[0]["headers"]["authorization"], format!("Bearer {VALUE}"));
}

#[test]
fn settings_terminate_all_hosts_and_a_refusal_inside_tls_explains_itself() {
    let Some(origin) = SecureOrigin::start() else {
        return skipped("terminated TLS", "install openssl and python3");
    };
    let cli = home(&origin);
    let settings = |exclude: &str| {
        let settings = format!(
            r#"{{"network":{{"allowedDomains":["origin.test","other.test"],"deniedDomains":[],
            "tlsTerminate":{{"excludeDomains":[{exclude}]}}}},
            "filesystem":{{"denyRead":[],"allowWrite":[],"denyWrite":[]}}}}"#
        );
        cli.write("settings.json", &settings).to_str().unwrap().to_owned()
    };
    let file = settings("");
    // A host that is allowed, another one in the header `Host`, a masked one, and a denied one.
    let script = "curl -sSi -H \"x-key: $KEY\" https://other.test/ | grep -e HTTP/ -e KEY\n\
                  curl -sS -H 'host: origin.test' https://other.test/ | head -n 1\n\
                  curl -sS https://other.test/ | grep -c other.test\n\
                  curl -sSi https://denied.test/ | grep -e HTTP/ -e Rule";
    let ran = run(&cli, &origin, &["--policy", &file], script).json();
    let lines: Vec<&str> = ran["stdout"].as_str().unwrap().lines().collect();
    assert!(lines[0].contains("403"), "{ran}");
    assert!(lines.iter().any(|line| line.contains("placeholder of KEY")), "{ran}");
    assert!(lines.iter().any(|line| line.contains("no entry of allowedDomains")), "{ran}");
    let denied = ran["denied"].as_array().unwrap();
    let rules: Vec<&str> = denied.iter().map(|denial| denial["rule"].as_str().unwrap()).collect();
    assert_eq!(
        rules,
        [
            "the placeholder of KEY is for other hosts",
            "the connection names another host: origin.test",
            "no entry of allowedDomains covers it",
        ]
    );
    assert_eq!(origin.requests().len(), 1, "{ran}");

    // An excluded host is not read: its own certificate is what the session sees.
    let file = settings(r#""other.test""#);
    let script =
        "for host in origin other; do curl -sv https://$host.test/ 2>&1 | grep issuer; done";
    let ran = run(&cli, &origin, &["--policy", &file], script).json();
    let issuers: Vec<&str> = ran["stdout"].as_str().unwrap().lines().collect();
    assert!(issuers[0].contains("Sandbox egress authority"), "{ran}");
    assert!(issuers[1].contains("CN=origin.test"), "{ran}");

    for (setting, key, remedy) in [
        (r#""extraCaCertPaths":["/ca.pem"]"#, "extraCaCertPaths", "set SSL_CERT_FILE of the host"),
        (
            r#""caCertPath":"/ca.pem","caKeyPath":"/ca.key""#,
            "caCertPath",
            "each process creates an authority",
        ),
    ] {
        let file = settings("");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace(r#""excludeDomains":[]"#, setting);
        let file = cli.write("refused.json", &text).to_str().unwrap().to_owned();
        let refused = cli.run(&["bash", "--policy", &file, "true"]);
        assert_eq!(refused.code, 125, "{}", refused.stderr);
        let problem = format!("network.tlsTerminate.{key} is set");
        assert!(refused.stderr.contains(&problem), "{}", refused.stderr);
        assert!(refused.stderr.contains(remedy), "{}", refused.stderr);
    }
}
