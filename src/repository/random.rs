//! Random bytes from the operating system.

use crate::error::{Error, Result};
use crate::id::{NAME_LEN, Name};

pub fn fill(out: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < out.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut out[done..], flags) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::io("cannot get random bytes", &e.into())),
        }
    }
    Ok(())
}

pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut out = [0; N];
    fill(&mut out)?;
    Ok(out)
}

/// A name that was never used and never will be again.
pub fn name() -> Result<Name> {
    bytes::<NAME_LEN>().map(Name)
}
