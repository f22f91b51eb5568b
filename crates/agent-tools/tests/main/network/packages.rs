//! Installers of packages, each with a registry on loopback.

use testkit::skipped;

use super::programs::{AUTHORITY, Programs, Python};
use super::tools::{CARGO, sysroot, write_crate, write_wheel};

#[tokio::test]
async fn uv_with_an_index() {
    let Some(python) = Python::find("uv") else { return };
    let programs = Programs::open(&[], python.readable()).await;
    if !write_wheel(&programs.origin) {
        return;
    }
    let command = format!(
        "rm -rf site && SSL_CERT_FILE={AUTHORITY} {} pip install --quiet --no-cache --target site \
         --python {} --index-url URL/simple/ probe && ls site",
        python.directory.join("bin/uv").display(),
        python.program().display(),
    );
    programs.check_web(&command, "probe-1.0.dist-info").await;
    programs.mask();
    let masked = command
        .replace(&format!("SSL_CERT_FILE={AUTHORITY}"), "")
        .replace("URL", "https://ann:$KEY@HOST");
    programs.check_masked(&masked, "probe-1.0.dist-info").await;
}

#[tokio::test]
async fn pip_and_npm_over_tls() {
    let programs = Programs::open(&[], Vec::new()).await;
    let is_there = programs.has("/usr/bin/python3", "python3").await
        && programs.has("npm", "npm").await
        && write_wheel(&programs.origin);
    if !is_there {
        return;
    }
    // Its own attempts take 8 s.
    let pip = format!(
        "/usr/bin/python3 -m pip download --quiet --no-deps --no-cache-dir --no-input \
         --retries 0 --disable-pip-version-check --isolated --cert {AUTHORITY} \
         --index-url https://HOST/simple/ probe && ls"
    );
    programs.check(&pip, 443, "probe-1.0-py3-none-any.whl").await;
    let packument = r#"{"name":"probe","dist-tags":{"latest":"1.2.3"},"versions":{"1.2.3":
        {"name":"probe","version":"1.2.3","dist":{"tarball":"https://origin.test/p.tgz"}}}}"#;
    programs.origin.write("probe", packument);
    // Without the session's variables, the attempts of npm take 70 s.
    let npm = format!(
        "npm_config_cafile={AUTHORITY} npm view probe version --registry https://HOST/ \
         --no-update-notifier"
    );
    programs.check(&npm, 443, "1.2.3").await;

    programs.mask();
    let own = format!("--cert {AUTHORITY} --index-url https://HOST");
    let masked = pip.replace(&own, "--index-url https://ann:$KEY@HOST").replace("--isolated", "");
    assert_ne!(masked, pip);
    programs.check_masked(&format!("rm -f *.whl; {masked}"), "probe-1.0-py3-none-any.whl").await;
    let own = format!("npm_config_cafile={AUTHORITY}");
    let masked = npm.replace(&own, "npm_config_userconfig=$PWD/npmrc npm_config_cache=$TMPDIR/c");
    let token = "printf '//origin.test/:_authToken=%s\\n' $KEY > npmrc";
    programs.check_masked(&format!("{token}; {masked}"), "1.2.3").await;
}

#[tokio::test]
async fn cargo_with_a_registry_over_tls() {
    let Some(sysroot) = sysroot() else { return skipped("cargo", "install Rust") };
    let programs = Programs::open(&[], vec![sysroot.clone()]).await;
    let origin = &programs.origin;
    write_crate(origin, r#"{"dl":"https://origin.test/crates","auth-required":true}"#);
    let command = format!(
        "{CARGO} printf '[net]\\nretry = 0\\n[registry]\\nglobal-credential-providers = \
         [\"cargo:token\"]\\n[registries.own]\\nindex = \"sparse+https://HOST/index/\"\\n' \
         > .cargo/config.toml && rm -rf Cargo.lock $TMPDIR/cargo && \
         export CARGO_REGISTRIES_OWN_TOKEN=${{KEY:-none}} CARGO_HOME=$TMPDIR/cargo && \
         {}/bin/cargo generate-lockfile && grep -A1 probe Cargo.lock",
        sysroot.display()
    );
    let trusting = format!("export CARGO_HTTP_CAINFO=$PWD/{AUTHORITY}; {command}");
    programs.check(&trusting, 443, "1.2.3").await;
    programs.mask();
    programs.check_masked(&command, "1.2.3").await;
}

/// A configuration of apt below the session directory, with one source and no keys.
const APT: &str = r#"
mkdir -p lists/partial cache/archives/partial
touch status
echo 'deb [trusted=yes] URL/archive ./' > sources.list
cat > apt.conf <<END
Dir::Etc { SourceList "$PWD/sources.list"; SourceParts "-"; Main "-"; Parts "-"; }
Dir::State "$PWD";
Dir::State::Lists "$PWD/lists";
Dir::State::Status "$PWD/status";
Dir::Cache "$PWD/cache";
Dir::Log "$PWD";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "0";
Acquire::https::CAInfo "$PWD/authority.pem";
END
export APT_CONFIG=$PWD/apt.conf
rm -f ./*.deb
apt-get update --quiet --error-on=any && apt-get download --quiet probe && ls
"#;

#[tokio::test]
async fn apt_with_an_archive() {
    let programs = Programs::open(&[], Vec::new()).await;
    if !programs.has("apt-get", "apt").await {
        return;
    }
    // apt compares the size and the digest, and does not open the package.
    let digest = "c5919a885d0e983e8bcfedc3ad1ab67b4020c2c31be5bfc2e8117f072fdc9106";
    programs.origin.write("archive/probe.deb", "a package\n");
    let index = format!(
        "Package: probe\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@b.test>\n\
         Description: probe\nFilename: ./probe.deb\nSize: 10\nSHA256: {digest}\n\n"
    );
    programs.origin.write("archive/Packages", &index);
    programs.check_web(APT, "probe_1.0_all.deb").await;
    programs.mask();
    let key = "printf 'machine origin.test login ann password %s\\n' $KEY > auth.conf;";
    let masked = APT
        .replace("Acquire::https::CAInfo \"$PWD/authority.pem\";\n", "")
        .replace("Parts \"-\"; }", "Parts \"-\"; Netrc \"$PWD/auth.conf\"; }");
    programs.check_masked(&format!("{key}{masked}"), "probe_1.0_all.deb").await;
}
