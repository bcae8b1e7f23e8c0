//! A file system of its own in a file, whose power can be cut. Needs root and loop devices.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct LoopDisk {
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

fn run(program: &str, arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(program).args(arguments).stdin(Stdio::null()).output()
}

pub fn must(program: &str, arguments: &[&str]) -> Result<(), String> {
    match run(program, arguments) {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(e) => Err(format!("{program}: {e}")),
    }
}

/// FS_IOC_SHUTDOWN without flushing the log: nothing that is not on the disk yet gets there, and everything fails from
/// then on. As a program, since tests have no unsafe code.
const CUT: &str =
    "open(F, '<', $ARGV[0]) or die $!; my $f = pack('L', 2); ioctl(F, 0x8004587d, $f) or die $!";

impl LoopDisk {
    /// A fresh one, or `None` and a loud line where this machine cannot make one.
    pub fn new(kind: &str) -> Option<LoopDisk> {
        match LoopDisk::try_new(kind) {
            Ok(disk) => Some(disk),
            Err(why) => {
                println!("NOT TRIED: no {kind} on a loop device here ({why})");
                None
            }
        }
    }

    fn try_new(kind: &str) -> Result<LoopDisk, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("snapkeep-test-{}-{number}", std::process::id());
        // In memory where there is room for that: then a sync costs nothing but what the file system itself does.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
        let (image, mount) = (dir.join(format!("{name}.img")), dir.join(format!("{name}.mnt")));
        let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
        // Sparse; xfs wants this much.
        file.set_len(320 << 20).map_err(|e| e.to_string())?;
        std::fs::create_dir_all(&mount).map_err(|e| e.to_string())?;
        let mut disk = LoopDisk { image, mount, mounted: false };
        let force = if kind == "xfs" { "-f" } else { "-F" };
        must(&format!("mkfs.{kind}"), &["-q", force, &disk.image.to_string_lossy()])?;
        disk.attach()?;
        Ok(disk)
    }

    fn attach(&mut self) -> Result<(), String> {
        must("mount", &["-o", "loop", &self.image.to_string_lossy(), &self.mount.to_string_lossy()])?;
        self.mounted = true;
        Ok(())
    }

    fn detach(&mut self) -> Result<(), String> {
        let mut last = Ok(());
        for _ in 0..100 {
            last = must("umount", &[&self.mount.to_string_lossy()]);
            if last.is_ok() {
                self.mounted = false;
                return last;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        last
    }

    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// From now on nothing reaches the disk.
    pub fn cut(&self) {
        must("perl", &["-e", CUT, &self.mount.to_string_lossy()]).expect("the power is cut");
    }

    /// Power is back: the file system recovers from its log.
    pub fn restart(&mut self) {
        self.detach().expect("nobody uses the disk any more");
        self.attach().expect("the disk can be mounted again");
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = self.detach();
        }
        let _ = std::fs::remove_file(&self.image);
        let _ = std::fs::remove_dir(&self.mount);
    }
}
