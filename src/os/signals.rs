//! Signals as messages: heard by a thread that sleeps until one comes.

use signal_hook::low_level::pipe;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;

/// Calls `hear` with the number of each of these signals that comes, from a thread of its own, as long as the program runs.
pub fn listen(signals: &[i32], hear: impl Fn(i32) + Send + Clone + 'static) -> io::Result<()> {
    for signal in signals.iter().copied() {
        let (mut ours, theirs) = UnixStream::pair()?;
        pipe::register(signal, theirs)?;
        let hear = hear.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut byte = [0];
            while ours.read_exact(&mut byte).is_ok() {
                hear(signal);
            }
        })?;
    }
    Ok(())
}
