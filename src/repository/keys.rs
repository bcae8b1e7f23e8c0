//! Passwords of a repository: create, open, add, remove, replace. All slots are one write-once record.

use super::{copies, random, removal};
use crate::backend::{Backend, write_new};
use crate::clock::Timestamp;
use crate::crypto::hash;
use crate::crypto::password::{Password, unwrap, wrap};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::{decode_plain_record, encode_plain_record};
use crate::format::key::{KDF_DEFAULT, KdfCost, KeySlot, KeySlots};
use crate::format::{FileName, Folder, limit};
use crate::id::{Name, hex};
use zeroize::Zeroizing;

/// Who makes a slot, for its label.
#[derive(Clone, Debug, Default)]
pub struct SlotOwner {
    pub label: String,
    pub user: String,
    pub host: String,
}

/// A new slot for `password`.
pub fn new_slot(
    repository: &Name,
    master: &[u8; 32],
    password: &Password,
    owner: &SlotOwner,
    now: Timestamp,
    cost: KdfCost,
) -> Result<KeySlot> {
    let mut slot = KeySlot {
        id: random::name()?.to_string(),
        label: owner.label.clone(),
        created: now.rfc3339(),
        user: owner.user.clone(),
        host: owner.host.clone(),
        kdf: "argon2id".to_owned(),
        cost,
        salt: String::new(),
        nonce: String::new(),
        wrapped: String::new(),
    };
    wrap(&mut slot, repository, password, master, &random::bytes::<40>()?)?;
    Ok(slot)
}

/// Writes the slots as record `number`; `AlreadyExists` when somebody else was faster.
pub fn write_slots(backend: &dyn Backend, repository: &Name, number: u32, slots: &KeySlots) -> Result<()> {
    let name = FileName::Keys(number);
    let mut bytes = encode_plain_record(&name, repository, &slots.encode(), &[0; 32]);
    let sum = hash::plain(&bytes);
    bytes.extend_from_slice(&sum);
    write_new(backend, &name, &bytes)?;
    copies::write(backend, &name, &bytes)
}

/// A key record that was found.
pub struct FoundSlots {
    pub slots: KeySlots,
    /// What to tell when its second copy had to serve.
    pub remark: Option<String>,
}

/// The newest key record of which the file or its second copy is intact; it may be one of several while a change is
/// under way.
pub fn read_slots(backend: &dyn Backend, repository: &Name) -> Result<FoundSlots> {
    let mut numbers = numbers(backend)?;
    numbers.sort_unstable();
    let mut trouble = None;
    for number in numbers.into_iter().rev() {
        let name = FileName::Keys(number);
        let judge = |bytes: &[u8], name: &FileName| judge(bytes, name, repository);
        match copies::either(backend, &name, &judge) {
            Ok((slots, copied)) => {
                return Ok(FoundSlots { slots, remark: copied.then(|| copies::remark(&name)) });
            }
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => trouble = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(trouble.unwrap_or_else(|| Error::corrupt("the repository has no key file")))
}

/// Numbers of all key records, damaged ones and those known from their second copy too.
pub fn numbers(backend: &dyn Backend) -> Result<Vec<u32>> {
    let mut listed = backend.list(Folder::Keys)?;
    listed.extend(backend.list(Folder::Copies)?);
    let mut numbers: Vec<u32> = listed
        .iter()
        .filter_map(|stat| match stat.name {
            FileName::Keys(n) | FileName::CopyOfKeys(n) => Some(n),
            _ => None,
        })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// The slots in a key file's bytes, if these are as they were written.
pub fn judge(bytes: &[u8], name: &FileName, repository: &Name) -> Result<KeySlots> {
    let record = decode_plain_record(bytes, name)?;
    if record.repository != *repository {
        return Err(Error::corrupt(format!("{name} belongs to another repository")));
    }
    if hash::plain(record.hashed) != record.hash || record.mac != [0; 32] {
        return Err(Error::corrupt(format!("{name} is damaged: its checksum does not fit")));
    }
    KeySlots::decode(record.body)
}

/// The master key by way of the first slot this password opens; `preferred` (a slot id) is tried first.
pub fn unlock(
    slots: &KeySlots,
    repository: &Name,
    password: &Password,
    preferred: Option<&str>,
) -> Result<(Zeroizing<[u8; 32]>, String)> {
    let mut order: Vec<&KeySlot> = slots.slots.iter().collect();
    order.sort_by_key(|s| Some(s.id.as_str()) != preferred);
    let mut trouble = None;
    for slot in order {
        match unwrap(slot, repository, password) {
            Ok(Some(master)) => return Ok((master, slot.id.clone())),
            Ok(None) => {}
            Err(e) => trouble = Some(e),
        }
    }
    Err(trouble.unwrap_or_else(|| {
        Error::new(ErrorKind::WrongKey, "wrong password: it opens none of the repository's key slots")
    }))
}

/// Replaces the slots by what `change` makes of them: the new record first, then the old ones go.
pub fn change_slots(
    backend: &dyn Backend,
    repository: &Name,
    change: &dyn Fn(&mut KeySlots) -> Result<()>,
) -> Result<KeySlots> {
    for _ in 0..8 {
        let mut slots = read_slots(backend, repository)?.slots;
        // A damaged newest record keeps its number, too: the new one must come after it to hold.
        let number = numbers(backend)?.into_iter().max().unwrap_or(0);
        change(&mut slots)?;
        if slots.slots.is_empty() {
            return Err(Error::new(
                ErrorKind::Refused,
                "this is the last key; without it nothing can be read",
            ));
        }
        if slots.slots.len() > limit::KEY_SLOTS_MAX {
            let max = limit::KEY_SLOTS_MAX;
            return Err(Error::invalid(format!("a repository has at most {max} keys; remove one first")));
        }
        match write_slots(backend, repository, number + 1, &slots) {
            Ok(()) => {
                removal::keys(backend, number)?;
                return Ok(slots);
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(Error::new(ErrorKind::Locked, "somebody else keeps changing the keys; try again"))
}

/// The one slot whose id begins with `prefix`.
pub fn find_slot<'a>(slots: &'a KeySlots, prefix: &str) -> Result<&'a KeySlot> {
    let mut matching = slots.slots.iter().filter(|s| s.id.starts_with(prefix));
    let slot = matching.next().ok_or_else(|| Error::invalid(format!("no key begins with `{prefix}`")))?;
    if prefix.len() < 4 || matching.next().is_some() {
        return Err(Error::invalid(format!("`{prefix}` does not name exactly one key; use more digits")));
    }
    Ok(slot)
}

/// The cost of new slots: the default, or the least that works, for tests that make many repositories.
pub fn new_slot_cost() -> KdfCost {
    match std::env::var_os("SNAPKEEP_INSECURE_FAST_KDF") {
        Some(_) => KdfCost { m_kib: 8, t: 1, p: 1 },
        None => KDF_DEFAULT,
    }
}

/// A fresh master key.
pub fn new_master() -> Result<Zeroizing<[u8; 32]>> {
    let mut master = Zeroizing::new([0; 32]);
    random::fill(master.as_mut_slice())?;
    Ok(master)
}

/// Hex of a master key for plain repositories, where it protects nothing.
pub fn public_key_hex(master: &[u8; 32]) -> String {
    hex(master)
}
