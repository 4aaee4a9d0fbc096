//! A file that lines are appended to. It stays open; where its name has another file by now or none (it was put away, taken away, written
//! anew), what comes next goes to that name.

use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Such a file. Everything that it does waits for the disk.
#[derive(Debug)]
pub(super) struct Appended {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// The file system and the file's number in it. While it is open no other has that.
    id: (u64, u64),
}

impl Appended {
    /// The file of this name, which need not be there yet.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Its name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines; a write cut short by a full disk is taken back, so that no half line stays. The file's length then.
    pub(super) fn append(&mut self, lines: &[u8]) -> std::io::Result<u64> {
        let (mut file, before) = self.file()?;
        if let Err(fault) = file.write_all(lines) {
            let _ = file.set_len(before);
            return Err(fault);
        }
        Ok(before + lines.len() as u64)
    }

    /// What was appended is on the disk for certain, wherever the file is now.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        match &self.open {
            Some(open) => open.file.sync_data(),
            None => File::open(&self.path)?.sync_data(),
        }
    }

    /// Sets the file's time.
    pub(super) fn touch(&mut self, at: SystemTime) -> std::io::Result<()> {
        self.file()?.0.set_modified(at)
    }

    /// The file that has the name now, and its length.
    fn file(&mut self) -> std::io::Result<(&File, u64)> {
        let named = std::fs::metadata(&self.path).ok();
        let kept = self.open.take().zip(named).filter(|(open, named)| open.id == id(named));
        let (open, length) = match kept {
            Some((open, named)) => (open, named.len()),
            None => {
                let file = File::options().create(true).append(true).open(&self.path)?;
                let meta = file.metadata()?;
                (Open { file, id: id(&meta) }, meta.len())
            }
        };
        Ok((&self.open.insert(open).file, length))
    }
}

fn id(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_to_the_file_that_has_the_name_whatever_became_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let mut lines = Appended::new(path.clone());
        assert_eq!(lines.append(b"one\n").unwrap(), 4);
        assert_eq!(lines.append(b"two\n").unwrap(), 8);
        let away = folder.path().join("away");
        std::fs::rename(&path, &away).unwrap();
        assert_eq!(lines.append(b"three\n").unwrap(), 6);
        assert_eq!((read(&away), read(&path)), ("one\ntwo\n".to_owned(), "three\n".to_owned()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lines.append(b"four\n").unwrap(), 5);
        // Another in its place.
        std::fs::write(folder.path().join("new"), "zero\n").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert_eq!(lines.append(b"five\n").unwrap(), 10);
        // Emptied, or written into by another.
        std::fs::write(&path, "").unwrap();
        assert_eq!(lines.append(b"six\n").unwrap(), 4);
        File::options().append(true).open(&path).unwrap().write_all(b"other\n").unwrap();
        assert_eq!(lines.append(b"seven\n").unwrap(), 16);
        assert_eq!(read(&path), "six\nother\nseven\n");
        lines.sync().unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_fault_until_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let within = folder.path().join("within");
        std::fs::create_dir(&within).unwrap();
        let mut lines = Appended::new(within.join("lines"));
        lines.append(b"one\n").unwrap();
        std::fs::remove_dir_all(&within).unwrap();
        assert_eq!(lines.append(b"two\n").unwrap_err().kind(), std::io::ErrorKind::NotFound);
        std::fs::create_dir(&within).unwrap();
        assert_eq!(lines.append(b"two\n").unwrap(), 4);
    }
}
