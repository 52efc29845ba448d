//! Any bytes as a config file.

#![allow(clippy::expect_used, clippy::panic, reason = "a panic is how a check fails")]

use std::{fs, path::Path};

use super::{ConfigError, FileProblem, Origin, Setting, file};

/// A config file is understood, or its mistake is named with a place in it. What is understood makes sense.
pub fn config(bytes: &[u8], scratch: &Path) {
    let path = scratch.join("config.toml");
    fs::write(&path, bytes).expect("the folder for scratch takes a file");
    let setting = Setting::new(path.clone(), Origin::Flag);
    let read = file::read(&setting, Some(Path::new("/home/somebody")));
    assert_eq!(
        format!("{read:?}"),
        format!("{:?}", file::read(&setting, Some(Path::new("/home/somebody")))),
        "it is read in two ways"
    );
    match read {
        Ok(values) => {
            assert!(values.listen.is_none_or(|addresses| !addresses.is_empty()));
            assert!(values.inbox.is_none_or(|inbox| inbox.is_absolute()));
            assert!(values.log.is_none_or(|filter| crate::logging::parse_filter(&filter).is_ok()));
        }
        Err(ConfigError::File { line, column, problem, .. }) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&line), "line {line} of {lines}: {problem}");
            let width = bytes.split(|byte| *byte == b'\n').nth(line - 1).map_or(0, <[u8]>::len);
            assert!((1..=width + 1).contains(&column), "column {column} of {width}: {problem}");
            if let FileProblem::UnknownKey { nearest, .. } = problem {
                assert!(!nearest.is_empty());
            }
        }
        Err(ConfigError::Read { .. }) => {
            assert!(std::str::from_utf8(bytes).is_err() || bytes.len() > 1 << 20)
        }
        Err(error) => panic!("{error}"),
    }
    fs::remove_file(&path).expect("it can be removed");
}
