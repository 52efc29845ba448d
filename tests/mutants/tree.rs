//! The copy of the tree in which mistakes are made.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Result, list::Mistake};

/// A copy of what git knows or would take, with a folder of its own for what is built.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Copies what is there now. Files that are as they were keep their times, so that little is built anew.
    pub(crate) fn copy() -> Result<Self> {
        let here =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("this package lies in a workspace")?;
        let base = here.join("target/mutants");
        let tree = Self { root: base.join("tree"), target: base.join("target") };
        let known = Command::new("git")
            .current_dir(here)
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()?;
        if !known.status.success() {
            return Err(String::from_utf8_lossy(&known.stderr).into());
        }
        let known = String::from_utf8(known.stdout)?;
        let known: Vec<&str> = known.split('\0').filter(|path| !path.is_empty()).collect();
        for path in &known {
            // One that was removed and is still known to git has nothing to copy.
            if let Ok(content) = fs::read(here.join(path)) {
                put(&tree.root.join(path), &content)?;
            }
        }
        tree.remove_others(&known, &tree.root)?;
        Ok(tree)
    }

    /// Removes what an earlier copy had and this one has not.
    fn remove_others(&self, known: &[&str], folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(&self.root)?.to_str().ok_or("a name that is no text")?;
            if path.is_dir() {
                self.remove_others(known, &path)?;
            } else if !known.contains(&name) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Where the copy is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where it is built.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// A file as it is, and with a mistake in it.
    pub(crate) fn mistaken(&self, mistake: &Mistake) -> Result<(String, String)> {
        let whole = fs::read_to_string(self.root.join(&mistake.file))
            .map_err(|error| format!("{}: {}: {error}", mistake.name, mistake.file.display()))?;
        let mut mistaken = whole.clone();
        for (from, to) in mistake.changes() {
            let n = whole.matches(from).count();
            if n != 1 {
                let (name, file) = (&mistake.name, mistake.file.display());
                return Err(format!("{name}: {file} has this {n} times, not once:\n{from}").into());
            }
            mistaken = mistaken.replacen(from, to, 1);
        }
        Ok((whole, mistaken))
    }

    /// Does something while a mistake is in the tree.
    pub(crate) fn with<T>(&self, mistake: &Mistake, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let path = self.root.join(&mistake.file);
        let (whole, mistaken) = self.mistaken(mistake)?;
        fs::write(&path, mistaken)?;
        let result = work();
        fs::write(&path, whole)?;
        result
    }
}

/// Writes a file unless it has this content already.
fn put(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, content)?)
}
