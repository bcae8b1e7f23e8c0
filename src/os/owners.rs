//! Names of users and groups, from `/etc/passwd` and `/etc/group`.
//!
//! Read as plain text rather than through the C library: a static binary must not load name service modules,
//! and a directory server that is down must not stop a backup. Numbers without a line there keep an empty name.

use crate::format::entry::Owner;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Users and groups of this machine, with one shared `Owner` per pair of numbers.
pub struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    known: Mutex<HashMap<(u32, u32), Arc<Owner>>>,
}

impl Owners {
    /// Reads the machine's own tables; a table that cannot be read counts as empty.
    pub fn load() -> Self {
        let read = |path| std::fs::read(path).unwrap_or_default();
        Owners::parse(&read("/etc/passwd"), &read("/etc/group"))
    }

    /// From the text of the two files.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Owners { users: table(passwd), groups: table(group), known: Mutex::default() }
    }

    pub fn get(&self, uid: u32, gid: u32) -> Arc<Owner> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |table: &HashMap<u32, String>, id| table.get(&id).cloned().unwrap_or_default();
        let make =
            || Arc::new(Owner { uid, gid, user: name(&self.users, uid), group: name(&self.groups, gid) });
        known.entry((uid, gid)).or_insert_with(make).clone()
    }

    pub fn user_name(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }

    /// The number that the user named `name` has here.
    pub fn uid_of(&self, name: &str) -> Option<u32> {
        number(&self.users, name)
    }

    /// The number that the group named `name` has here.
    pub fn gid_of(&self, name: &str) -> Option<u32> {
        number(&self.groups, name)
    }
}

/// `name:password:number:…` lines; the first line for a number wins, as it does in the C library.
fn table(text: &[u8]) -> HashMap<u32, String> {
    let mut out = HashMap::new();
    for line in text.split(|&b| b == b'\n') {
        let mut fields = line.split(|&b| b == b':');
        let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        // `+` and `-` lines ask for a network service.
        if let Some(id) = id
            && !name.is_empty()
            && !matches!(name[0], b'+' | b'-' | b'#')
        {
            out.entry(id).or_insert_with(|| String::from_utf8_lossy(name).into_owned());
        }
    }
    out
}

fn number(table: &HashMap<u32, String>, name: &str) -> Option<u32> {
    // Two numbers may share a name; the lowest is the same answer at every run.
    table.iter().filter(|(_, n)| *n == name).map(|(id, _)| *id).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line_wins_and_unknown_numbers_have_no_name() {
        let owners = Owners::parse(
            b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n+nis\nbad:x:twelve:\nana:x:1000:1000:::",
            b"root:x:0:\nstaff:x:50:ana\n",
        );
        let root = owners.get(0, 50);
        assert_eq!((root.user.as_str(), root.group.as_str()), ("root", "staff"));
        assert_eq!(owners.get(77, 78).user, "");
        assert_eq!(owners.uid_of("ana"), Some(1000));
        assert_eq!(owners.uid_of("bad"), None);
        assert!(Arc::ptr_eq(&root, &owners.get(0, 50)));
    }
}
