//! The rule that every fault has a test which says so.
//!
//! `docs/reliability.md` has a numbered list of faults, each with the names of its tests; a test has a line of
//! documentation of its own, `/// Fault 41.` or `/// Faults 41 and 48.`, with the numbers of what it holds. The two say
//! the same.

use std::collections::{BTreeMap, BTreeSet};

/// How many faults there are.
const FAULTS: u32 = 81;
/// Faults of what is not built yet: a web face.
const WAITING: [u32; 1] = [80];
/// What the list says of these.
const WAITS: &str = "Waits for";

/// Faults by number, each with tests by name.
pub type Tests = BTreeMap<u32, BTreeSet<String>>;

/// The marks of one Rust file: faults and the tests that hold them, and complaints of marks that are none.
pub fn marks(text: &str) -> (Tests, Vec<String>) {
    let (mut tests, mut complaints) = (Tests::new(), Vec::new());
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(words) = line.strip_prefix("/// ").filter(|words| looks_like_a_mark(words)) else {
            continue;
        };
        let rest = &lines[at + 1..];
        let above = rest.iter().take_while(|line| line.starts_with("///") || line.starts_with("#["));
        let is_test = above.clone().any(|line| line.starts_with("#[") && line.contains("test"));
        let name = rest.get(above.count()).and_then(|line| name_of(line));
        match (numbers(words), name) {
            (Some(numbers), Some(name)) if is_test => {
                for number in numbers {
                    tests.entry(number).or_default().insert(name.to_owned());
                }
            }
            (None, _) => complaints.push(format!("not the form of a mark: {line}")),
            _ => complaints.push(format!("no test below the mark: {line}")),
        }
    }
    (tests, complaints)
}

fn looks_like_a_mark(words: &str) -> bool {
    let rest = words.strip_prefix("Faults ").or_else(|| words.strip_prefix("Fault "));
    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The numbers of `Fault 1.`, `Faults 1 and 2.` or `Faults 1, 2 and 3.`
fn numbers(words: &str) -> Option<Vec<u32>> {
    let rest = words.strip_suffix('.')?;
    if let Some(one) = rest.strip_prefix("Fault ") {
        return Some(vec![one.parse().ok()?]);
    }
    let (first, last) = rest.strip_prefix("Faults ")?.split_once(" and ")?;
    first.split(", ").chain([last]).map(|number| number.parse().ok()).collect()
}

/// The name of the function that a line begins.
fn name_of(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
}

/// The list in the documentation: tests by fault, and the faults that are said to wait.
fn list(document: &str) -> (Tests, BTreeSet<u32>) {
    let (mut tests, mut waiting) = (Tests::new(), BTreeSet::new());
    let section = document.split_once("\n## Faults\n").map_or("", |(_, rest)| rest);
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let mut current = None;
    for line in section.lines() {
        let number = line.split_once(". ").and_then(|(number, _)| number.parse().ok());
        if line.is_empty() || line.starts_with('#') {
            current = None;
        }
        current = number.or(current);
        let Some(number) = current else { continue };
        let named = tests.entry(number).or_default();
        // Every second part stands between backquotes. A name of a test has several words.
        let quoted = line.split('`').skip(1).step_by(2);
        let is_name =
            |word: &&str| word.contains('_') && word.chars().all(|c| c.is_alphanumeric() || c == '_');
        named.extend(quoted.filter(is_name).map(str::to_owned));
        if line.contains(WAITS) {
            waiting.insert(number);
        }
    }
    (tests, waiting)
}

/// Compares the marks of all files with the list.
pub fn every_fault_has_its_tests(marked: &Tests, document: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let (listed, waiting) = list(document);
    let nothing = BTreeSet::new();
    for number in 1..=FAULTS {
        if !listed.contains_key(&number) {
            complaints.push(format!("fault {number} is not listed"));
        }
        let has_tests = marked.contains_key(&number);
        match (has_tests, waiting.contains(&number)) {
            (true, true) => complaints.push(format!("fault {number} has tests and is said to wait")),
            (false, true) if !WAITING.contains(&number) => {
                complaints.push(format!("fault {number} cannot wait"));
            }
            (false, false) => complaints.push(format!("fault {number} has no test")),
            _ => {}
        }
    }
    for number in listed.keys().chain(marked.keys()).collect::<BTreeSet<_>>() {
        if !(1..=FAULTS).contains(number) {
            complaints.push(format!("there is no fault {number}"));
        }
        let in_list = listed.get(number).unwrap_or(&nothing);
        let in_code = marked.get(number).unwrap_or(&nothing);
        for name in in_list.difference(in_code) {
            complaints.push(format!(
                "fault {number} is said to be held by {name}, and no test of that name is marked"
            ));
        }
        for name in in_code.difference(in_list) {
            complaints.push(format!("fault {number} is held by {name}, which the list does not say"));
        }
    }
    complaints
}
