//! The architecture's invariants, held by reading the sources. `docs/architecture.md` says why each of them is.
//!
//! Every rule is a function from a file to complaints, and is shown a file that breaks it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use p2p_tests::architecture::{
    Source,
    faults::{Tests, every_fault_has_its_tests, marks},
    rules::{
        bincode_only_in_the_codec, cli_does_not_see_the_daemon, every_misbehaviour_is_provoked,
        files_are_short, impure_dependencies, layers_of_the_daemon, limits_are_used, no_leftovers,
        only_the_disk_changes_files, protocol_is_pure, quic_only_in_transport, sqlite_only_in_the_store,
    },
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All Rust files of the workspace, with their paths from its root.
fn sources() -> Vec<Source> {
    texts().iter().map(|(path, text)| Source::new(path, text)).collect()
}

/// The same as they are.
fn texts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for package in ["protocol", "daemon", "cli", "tests"] {
        walk(&root(), &root().join(package), &mut found);
    }
    assert!(found.len() > 50, "only {} sources were found", found.len());
    found
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Build output of a package that is built on its own, such as fuzz targets.
            if !path.ends_with("target") {
                walk(root, &path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let shown = path.strip_prefix(root).unwrap().to_str().unwrap();
            found.push((shown.to_owned(), fs::read_to_string(&path).unwrap()));
        }
    }
}

type Rule = fn(&Source) -> Vec<String>;

fn assert_holds(rule: Rule) {
    let complaints: Vec<String> = sources()
        .iter()
        .flat_map(|source| rule(source).into_iter().map(|complaint| format!("{}: {complaint}", source.path)))
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Fails unless the rule complains of this file and not of the same text elsewhere.
fn assert_bites(rule: Rule, path: &str, text: &str, elsewhere: &str) {
    assert!(!rule(&Source::new(path, text)).is_empty(), "no complaint of {path}: {text}");
    let there = rule(&Source::new(elsewhere, text));
    assert!(there.is_empty(), "{elsewhere}: {text}: {there:?}");
}

#[test]
fn protocol_stays_pure() {
    assert_holds(protocol_is_pure);
    for text in [
        "use tokio::sync::Mutex;",
        "use std::{fmt, fs};",
        "use std::{fmt, net::{IpAddr}};",
        "fn now() { std::time::Instant::now(); }",
        "use std::time::{Duration, SystemTime};",
        "use std::time; fn now() { time::Instant::now(); }",
        "fn pick() -> u8 { rand::random() }",
        "use quinn;",
        "use std::io::Read;",
    ] {
        assert_bites(protocol_is_pure, "protocol/src/plan.rs", text, "daemon/src/plan.rs");
    }
    for text in [
        "// tokio::spawn would be impure",
        "const TEXT: &str = \"std::fs::read\";",
        "use std::time::Duration;",
    ] {
        assert!(protocol_is_pure(&Source::new("protocol/src/plan.rs", text)).is_empty(), "{text}");
    }
}

#[test]
fn protocol_depends_on_nothing_impure() {
    let manifest = fs::read_to_string(root().join("protocol/Cargo.toml")).unwrap();
    let complaints = impure_dependencies(&manifest);
    assert!(complaints.is_empty(), "{complaints:?}");
    assert!(!impure_dependencies("[dependencies]\ntokio.workspace = true\n").is_empty());
    assert!(impure_dependencies("[dev-dependencies]\ntokio.workspace = true\n").is_empty());
}

#[test]
fn quinn_and_rustls_are_named_only_in_transport() {
    assert_holds(quic_only_in_transport);
    for text in ["use quinn::VarInt;", "fn f() -> rustls::Error { todo() }", "use {rustls::Error};"] {
        assert_bites(
            quic_only_in_transport,
            "daemon/src/session/run.rs",
            text,
            "daemon/src/transport/tls.rs",
        );
        assert_bites(quic_only_in_transport, "daemon/src/identity.rs", text, "tests/src/hostile/tls.rs");
    }
}

#[test]
fn bincode_is_named_only_in_the_codec() {
    assert_holds(bincode_only_in_the_codec);
    let text = "use bincode::config;";
    assert_bites(bincode_only_in_the_codec, "protocol/src/wire/chunk.rs", text, "protocol/src/wire/codec.rs");
    assert_bites(
        bincode_only_in_the_codec,
        "daemon/src/store/partial.rs",
        text,
        "protocol/src/wire/codec.rs",
    );
}

#[test]
fn rusqlite_is_named_only_in_the_store() {
    assert_holds(sqlite_only_in_the_store);
    let text = "use rusqlite::Connection;";
    assert_bites(
        sqlite_only_in_the_store,
        "daemon/src/session/registry.rs",
        text,
        "daemon/src/store/catalog.rs",
    );
}

#[test]
fn layers_point_one_way() {
    assert_holds(layers_of_the_daemon);
    for (path, text) in [
        ("daemon/src/store/import.rs", "use crate::transport::Endpoint;"),
        ("daemon/src/store/import.rs", "use crate::{config::Config, session::Job};"),
        ("daemon/src/store/import.rs", "use super::super::control::Handlers;"),
        ("daemon/src/transport/tls.rs", "fn f(store: &crate::store::Store) {}"),
        ("daemon/src/transport/mod.rs", "use crate::session;"),
        ("daemon/src/session/run.rs", "use crate::control::Handlers;"),
    ] {
        assert_bites(layers_of_the_daemon, path, text, "daemon/src/control/handlers.rs");
    }
    let fine = "use crate::{store::Store, transport::Endpoint}; use p2p_protocol::control::Event;";
    assert!(layers_of_the_daemon(&Source::new("daemon/src/session/mod.rs", fine)).is_empty());
}

#[test]
fn only_the_disk_changes_files_and_folders() {
    assert_holds(only_the_disk_changes_files);
    for text in [
        "fn f(path: &Path) { std::fs::write(path, b\"x\"); }",
        "use std::fs; fn f() { fs::rename(a, b); }",
        "use std::fs::OpenOptions;",
        "fn f() { rustix::fs::mkdirat(folder, name, mode); }",
        "fn f() { File::create(path); }",
    ] {
        assert_bites(only_the_disk_changes_files, "daemon/src/store/list.rs", text, "daemon/src/disk.rs");
        let in_tests = format!("#[cfg(test)]\nmod tests {{ {text} }}");
        assert!(only_the_disk_changes_files(&Source::new("daemon/src/home.rs", &in_tests)).is_empty());
    }
}

#[test]
fn the_command_line_does_not_see_the_daemon() {
    assert_holds(cli_does_not_see_the_daemon);
    for text in ["use p2p_daemon::Settings;", "fn f(e: quinn::Endpoint) {}", "use rusqlite::Connection;"] {
        assert_bites(cli_does_not_see_the_daemon, "cli/src/client.rs", text, "tests/src/daemon.rs");
    }
}

#[test]
fn files_stay_short() {
    assert_holds(files_are_short);
    assert!(files_are_short(&Source::new("cli/src/a.rs", &"\n".repeat(600))).is_empty());
    assert!(!files_are_short(&Source::new("cli/src/a.rs", &"\n".repeat(601))).is_empty());
}

#[test]
fn nothing_is_left_over() {
    assert_holds(no_leftovers);
    for text in [
        "fn f() { todo!() }",
        "fn f() { unimplemented!(\"later\") }",
        "fn f(x: u8) { dbg!(x); }",
        "#[test]\n#[ignore]\nfn f() {}",
        "#[ignore = \"slow\"]\nfn f() {}",
        "// FIXME: wrong\nfn f() {}",
        "fn f() {} // XXX",
        "/// TODO say more\nfn f() {}",
        "/* HACK */ fn f() {}",
        "// let x = 5;\nfn f() {}",
        "fn f() {\n    // if x {\n}",
        "// use std::fs;\nfn f() {}",
    ] {
        assert!(!no_leftovers(&Source::new("cli/src/a.rs", text)).is_empty(), "no complaint of {text:?}");
    }
    for text in [
        "/// let x = 5;\nfn f() {}",
        "// It is done once; see above.\nfn f() {}",
        "fn f() -> &str { \"todo!()\" }",
    ] {
        let complaints = no_leftovers(&Source::new("cli/src/a.rs", text));
        assert!(complaints.is_empty(), "{text:?}: {complaints:?}");
    }
}

#[test]
fn every_limit_is_used() {
    let sources = sources();
    let complaints = limits_are_used(&sources);
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    let limits = "pub const A: u64 = 1;\npub const B: u64 = 2 * A;\npub const C: u64 = 3;\n\
                  const _: () = {\n    assert!(B > 1 && C > 1);\n};\n";
    let of = |user: &str| {
        limits_are_used(&[
            Source::new("protocol/src/limits.rs", limits),
            Source::new("daemon/src/x.rs", user),
        ])
    };
    assert_eq!(of("use p2p_protocol::limits::C;").len(), 0);
    assert_eq!(of("// C is a fine limit").len(), 1);
}

#[test]
fn every_misbehaviour_is_provoked_by_a_hostile_peer() {
    let complaints = every_misbehaviour_is_provoked(&sources());
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    let reasons =
        "pub enum PeerMisbehaved {\n    /// Text.\n    #[error(\"x\")]\n    Early(u32),\n    Late,\n}\n";
    let of = |test: &str| {
        every_misbehaviour_is_provoked(&[
            Source::new("protocol/src/reason.rs", reasons),
            Source::new("tests/tests/hostile/x.rs", test),
        ])
    };
    assert_eq!(of("f(PeerMisbehaved::Early(1)); f(&PeerMisbehaved::Late)").len(), 0);
    assert_eq!(of("f(PeerMisbehaved::Early(1))").len(), 1);
    assert_eq!(of("// PeerMisbehaved::Early and PeerMisbehaved::Late").len(), 2);
    assert_eq!(every_misbehaviour_is_provoked(&[]).len(), 1);
}

#[test]
fn every_fault_has_a_test_that_says_so() {
    let (mut marked, mut complaints) = (Tests::new(), Vec::new());
    for (path, text) in texts() {
        // The examples of what is no mark.
        if path == "tests/tests/architecture.rs" {
            continue;
        }
        let (tests, wrong) = marks(&text);
        complaints.extend(wrong.into_iter().map(|complaint| format!("{path}: {complaint}")));
        for (number, names) in tests {
            marked.entry(number).or_default().extend(names);
        }
    }
    let document = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    complaints.extend(every_fault_has_its_tests(&marked, &document));
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));

    for text in [
        "/// Fault 1 and 2.\n#[test]\nfn a_test() {}",
        "/// Faults 1, 2.\n#[test]\nfn a_test() {}",
        "/// Fault 1\n#[test]\nfn a_test() {}",
        "/// Fault 1.\nfn no_test() {}",
        "/// Fault 1.\nconst X: u8 = 1;",
    ] {
        assert!(!marks(text).1.is_empty(), "no complaint of {text:?}");
    }
    let good = "/// Says more.\n///\n/// Faults 1, 2 and 3.\n#[tokio::test]\nasync fn holds_it() {}";
    assert!(marks(good).1.is_empty());
    let without = |word: &str| document.replacen(word, "", 1);
    let mut more = marked.clone();
    more.insert(82, BTreeSet::from(["of_nothing".to_owned()]));
    let mut fewer = marked.clone();
    fewer.remove(&41);
    let mut early = marked.clone();
    early.insert(80, BTreeSet::from(["of_a_web_face".to_owned()]));
    let listed = "`a_corrupt_chunk_is_dropped_counted_and_asked_for_again`";
    for (marked, document, expected) in [
        (&fewer, document.clone(), "fault 41 has no test"),
        (&marked, without(listed), "which the list does not say"),
        (&marked, document.replacen(listed, "`a_test_of_another_name`", 1), "no test of that name is marked"),
        (&marked, without("\n41. "), "fault 41 is not listed"),
        (&more, document.clone(), "there is no fault 82"),
        (&early, document.clone(), "fault 80 has tests and is said to wait"),
        (&fewer, document.replacen("\n41. ", "\n41. Waits for better days. ", 1), "fault 41 cannot wait"),
    ] {
        let found = every_fault_has_its_tests(marked, &document);
        assert!(found.iter().any(|complaint| complaint.contains(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn the_top_level_holds_what_belongs_there() {
    const MUST: [&str; 17] = [
        ".ci",
        ".github",
        ".gitignore",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "clippy.toml",
        "cli",
        "daemon",
        "deny.toml",
        "docs",
        "protocol",
        "rustfmt.toml",
    ];
    let mut expected: BTreeSet<String> = MUST.iter().map(|name| (*name).to_owned()).collect();
    expected.insert("tests".to_owned());
    let found = top_level();
    let missing: Vec<_> = expected.difference(&found).collect();
    let strange: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && strange.is_empty(), "missing {missing:?}, not expected {strange:?}");
}

/// What the repository has at its top: what git knows, or everything but build output where there is no git.
fn top_level() -> BTreeSet<String> {
    let git = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).output();
    if let Ok(output) = git
        && output.status.success()
    {
        let text = String::from_utf8(output.stdout).unwrap();
        return text
            .split('\0')
            .filter_map(|path| path.split('/').next())
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
    }
    fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !matches!(name.as_str(), "target" | ".git"))
        .collect()
}
