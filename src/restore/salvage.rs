//! A damaged file, kept under another name with holes for what is lost and a list of them beside it: never silently,
//! and never under its own name.

use super::course::Job;
use super::place::{Restoring, Temp};
use crate::crypto::ChunkSort;
use crate::error::{Context as _, Error, Result};
use crate::format::entry::Extent;
use crate::manifest::content::extents_left;
use crate::os::beneath;
use crate::os::dir::Handle;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;

/// Names tried when something stands at the first.
const NAMES: usize = 100;

/// A file that was kept.
pub struct Kept {
    /// The name it has now.
    pub name: Vec<u8>,
    /// Offset and length of each stretch that is lost.
    pub holes: Vec<(u64, u64)>,
}

impl Kept {
    pub fn lost(&self) -> u64 {
        self.holes.iter().fold(0, |n, (_, len)| n.saturating_add(*len))
    }
}

impl Restoring<'_> {
    /// Keeps what is left of a file; `trouble` is why it cannot be restored, and what is returned when nothing is left.
    pub fn keep_damaged(&self, job: &Job, dir: &Handle, trouble: Error) -> Result<Kept> {
        let entry = &job.entry;
        let Some(left) = extents_left(self.reader, &entry.content)? else { return Err(trouble) };
        let mut temp = Temp::new(dir, &self.names);
        let file = beneath::create_file(dir, temp.name(), super::place::PRIVATE_FILE)
            .context(|| "cannot make the file")?;
        temp.there = true;
        let (mut holes, mut at, mut any) = (left.lost, 0u64, false);
        for extent in &left.extents {
            self.tally.progress.keep_going()?;
            let len = match extent {
                Extent::Hole { len } => *len,
                Extent::Chunk { id, len, repeat } => {
                    let whole = u64::from(*len).saturating_mul(*repeat);
                    match self.reader.get(ChunkSort::Content, id) {
                        Ok(chunk) if chunk.len() == *len as usize => {
                            write(&file, at, &chunk, *repeat)?;
                            any = true;
                        }
                        Err(e) if !e.kind().is_unreadable() => return Err(e),
                        _ => holes.push((at, whole)),
                    }
                    whole
                }
            };
            at = at.saturating_add(len);
        }
        if !any || at != entry.content.size {
            return Err(trouble);
        }
        file.set_len(entry.content.size).context(|| "cannot set the size")?;
        holes.sort_unstable();
        self.finish_file(job, &file)?;
        let name = name_it(dir, &mut temp, entry.name())?;
        let kept = Kept { name, holes };
        self.list_holes(dir, &kept)?;
        Ok(kept)
    }

    /// The list beside it: one line for each hole.
    fn list_holes(&self, dir: &Handle, kept: &Kept) -> Result<()> {
        let mut text = String::from("# offset and length in bytes of what is lost\n");
        for (at, len) in &kept.holes {
            text.push_str(&format!("{at} {len}\n"));
        }
        let mut temp = Temp::new(dir, &self.names);
        let made = beneath::create_file(dir, temp.name(), super::place::PRIVATE_FILE);
        let mut file = made.context(|| "cannot list the holes")?;
        temp.there = true;
        file.write_all(text.as_bytes()).context(|| "cannot list the holes")?;
        let name = [kept.name.as_slice(), b".holes"].concat();
        beneath::rename_new(dir, temp.name(), dir, &name).context(|| "cannot list the holes")?;
        temp.there = false;
        Ok(())
    }
}

fn write(file: &File, at: u64, bytes: &[u8], repeat: u64) -> Result<()> {
    for i in 0..repeat {
        file.write_all_at(bytes, at + i * bytes.len() as u64).context(|| "cannot write")?;
    }
    Ok(())
}

/// Gives the file the first free name: `NAME.damaged`, `NAME.damaged-2`, … What stands there is never replaced.
fn name_it(dir: &Handle, temp: &mut Temp<'_>, name: &[u8]) -> Result<Vec<u8>> {
    let mut last = None;
    for number in 1..=NAMES {
        let suffix = if number == 1 { ".damaged".to_owned() } else { format!(".damaged-{number}") };
        let full = [name, suffix.as_bytes()].concat();
        match beneath::rename_new(dir, temp.name(), dir, &full) {
            Ok(()) => {
                temp.there = false;
                return Ok(full);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => last = Some(e),
            Err(e) => return Err(Error::io("cannot give what is left a name", &e)),
        }
    }
    let e = last.unwrap_or_else(|| std::io::ErrorKind::AlreadyExists.into());
    Err(Error::io("cannot give what is left a name", &e))
}
