//! Passwords to keys: Argon2id, and the wrapping of the master key in a slot.

use crate::error::{Error, ErrorKind, Result};
use crate::format::key::{KdfCost, KeySlot};
use crate::id::{Name, hex, unhex};
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize, Zeroizing};

/// A password; wiped when dropped, never printed.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// One trailing newline is dropped; an empty password is refused.
    pub fn new(mut bytes: Vec<u8>) -> Result<Self> {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err(Error::invalid("the password is empty"));
        }
        Ok(Password(Zeroizing::new(bytes)))
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

fn derive(password: &Password, salt: &[u8], cost: KdfCost) -> Result<Zeroizing<[u8; 32]>> {
    let failed = |e: argon2::Error| {
        Error::new(ErrorKind::Unsupported, format!("cannot derive a key from the password: {e}"))
    };
    let params = argon2::Params::new(cost.m_kib, cost.t, cost.p, Some(32)).map_err(failed)?;
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = Zeroizing::new([0u8; 32]);
    argon.hash_password_into(&password.0, salt, key.as_mut_slice()).map_err(failed)?;
    Ok(key)
}

/// What the slot's seal covers beside the master key: repository and parameters.
fn associated(repository: &Name, slot_salt: &[u8], cost: KdfCost) -> Vec<u8> {
    let mut aad = b"snapkeep key slot v1".to_vec();
    aad.extend_from_slice(&repository.0);
    aad.extend_from_slice(slot_salt);
    for n in [cost.m_kib, cost.t, cost.p] {
        aad.extend_from_slice(&n.to_le_bytes());
    }
    aad
}

/// Fills in salt, nonce and wrapped key of `slot`, whose other fields the caller has set.
pub fn wrap(
    slot: &mut KeySlot,
    repository: &Name,
    password: &Password,
    master: &[u8; 32],
    random: &[u8; 40],
) -> Result<()> {
    let (salt, nonce) = random.split_at(16);
    let key = derive(password, salt, slot.cost)?;
    let cipher = XChaCha20Poly1305::new(key.as_slice().into());
    let mut buffer = master.to_vec();
    let aad = associated(repository, salt, slot.cost);
    let tag = cipher
        .encrypt_in_place_detached(XNonce::from_slice(nonce), &aad, &mut buffer)
        .map_err(|_| Error::new(ErrorKind::Invalid, "cannot wrap the master key"))?;
    buffer.extend_from_slice(&tag);
    slot.salt = hex(salt);
    slot.nonce = hex(nonce);
    slot.wrapped = hex(&buffer);
    Ok(())
}

/// The master key, or `None` when this password does not open this slot.
pub fn unwrap(slot: &KeySlot, repository: &Name, password: &Password) -> Result<Option<Zeroizing<[u8; 32]>>> {
    let parts = (unhex(&slot.salt), unhex(&slot.nonce), unhex(&slot.wrapped));
    let (Some(salt), Some(nonce), Some(mut wrapped)) = parts else {
        return Err(Error::corrupt(format!("key slot {} is damaged", slot.id)));
    };
    if salt.len() != 16 || nonce.len() != 24 || wrapped.len() != 48 {
        return Err(Error::corrupt(format!("key slot {} is damaged", slot.id)));
    }
    let key = derive(password, &salt, slot.cost)?;
    let cipher = XChaCha20Poly1305::new(key.as_slice().into());
    let aad = associated(repository, &salt, slot.cost);
    let (body, tag) = wrapped.split_at_mut(32);
    let opened =
        cipher.decrypt_in_place_detached(XNonce::from_slice(&nonce), &aad, body, Tag::from_slice(tag));
    let result = match opened {
        Ok(()) => {
            let mut master = Zeroizing::new([0u8; 32]);
            master.copy_from_slice(body);
            Some(master)
        }
        Err(_) => None,
    };
    wrapped.zeroize();
    Ok(result)
}
