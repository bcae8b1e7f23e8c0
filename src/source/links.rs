//! Numbers for hard links: the same for all names of one file, different for different files.

use std::collections::HashMap;

/// Inode numbers below this leave room for the device above them.
const PLAIN: u64 = 1 << 48;
/// Marks numbers that had to be made up.
const MADE_UP: u64 = 1 << 63;

/// Link numbers of one walk. Equal at every run over the same roots, since devices are met in the same order.
#[derive(Default)]
pub(super) struct Links {
    devices: Vec<u64>,
    made_up: HashMap<(u64, u64), u64>,
    taken: HashMap<u64, (u64, u64)>,
}

impl Links {
    /// The inode itself on the first device met, with the device's ordinal in the high bits on others.
    pub(super) fn number(&mut self, dev: u64, inode: u64) -> u64 {
        let ordinal = self.meet(dev);
        if inode != 0 && inode < PLAIN && ordinal < 1 << 15 {
            ordinal << 48 | inode
        } else {
            self.make_up(dev, inode, ordinal)
        }
    }

    /// The device's ordinal: how many others were met before it.
    pub(super) fn meet(&mut self, dev: u64) -> u64 {
        let at = self.devices.iter().position(|&d| d == dev).unwrap_or_else(|| {
            self.devices.push(dev);
            self.devices.len() - 1
        });
        at as u64
    }

    /// Some filesystems use all 64 bits of an inode number. Those get a scrambled number that nobody else has.
    fn make_up(&mut self, dev: u64, inode: u64, ordinal: u64) -> u64 {
        if let Some(number) = self.made_up.get(&(dev, inode)) {
            return *number;
        }
        let mixed = (inode ^ ordinal.rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut number = mixed | MADE_UP;
        while self.taken.contains_key(&number) {
            number = number.wrapping_add(1) | MADE_UP;
        }
        self.taken.insert(number, (dev, inode));
        self.made_up.insert((dev, inode), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_inodes_where_possible_and_never_shared() {
        let mut links = Links::default();
        assert_eq!(links.number(7, 100), 100);
        let other = links.number(8, 100);
        assert_ne!(other, 100);
        assert_eq!(links.number(8, 100), other);
        // The number a plain one on device 8 has, as an inode of device 7.
        let clash = links.number(7, other);
        assert!(clash != other && clash != 0);
        assert_eq!(links.number(7, other), clash);
        assert_ne!(links.number(7, 0), 0);
    }
}
