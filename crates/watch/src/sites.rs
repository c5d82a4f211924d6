//! Sums of samples, by stack and usable size: from the size and the rate follows what one sample
//! stands for, so nothing has to be weighted in here.

use crate::grown::Grown;

/// Sums of one stack and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// Number of the stack.
    pub(crate) stack: u32,
    /// Usable bytes of each block.
    pub(crate) usable_bytes: u64,
    /// Mean bytes between samples when these were taken.
    pub(crate) rate_bytes: u64,
    /// Samples taken.
    pub(crate) taken: u64,
    /// Samples freed.
    pub(crate) freed: u64,
    /// What the program asked for, over all samples.
    pub(crate) requested_bytes: u64,
}

/// All sites, with a hash table of where they are.
pub(crate) struct Sites {
    sites: Grown<Site>,
    places: Grown<u32>,
}

impl Sites {
    pub(crate) const fn new() -> Self {
        Self { sites: Grown::new(), places: Grown::new() }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.sites.bytes() + self.places.bytes()
    }

    pub(crate) fn as_slice(&self) -> &[Site] {
        self.sites.as_slice()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Site> {
        self.sites.as_mut_slice().get_mut(number as usize)
    }

    /// The number of the site; none when there is no memory.
    pub(crate) fn number_of(
        &mut self,
        stack: u32,
        usable_bytes: u64,
        rate_bytes: u64,
    ) -> Option<u32> {
        if self.sites.as_slice().len() * 2 >= self.places.as_slice().len() && !self.widen() {
            return None;
        }
        let fresh =
            Site { stack, usable_bytes, rate_bytes, taken: 0, freed: 0, requested_bytes: 0 };
        let mask = self.places.as_slice().len() - 1;
        let mut place = hash_of(&fresh) & mask;
        while let Some(number) = self.places.as_slice()[place].checked_sub(1) {
            let site = self.sites.as_slice()[number as usize];
            let key = |site: &Site| (site.stack, site.usable_bytes, site.rate_bytes);
            if key(&site) == key(&fresh) {
                return Some(number);
            }
            place = (place + 1) & mask;
        }
        let number = u32::try_from(self.sites.as_slice().len()).ok()?;
        if !self.sites.extend(&[fresh]) {
            return None;
        }
        self.places.as_mut_slice()[place] = number + 1;
        Some(number)
    }

    fn widen(&mut self) -> bool {
        let length = (self.places.as_slice().len() * 2).max(512);
        if !self.places.reset_zeroed(length) {
            return false;
        }
        for (number, site) in self.sites.as_slice().iter().enumerate() {
            let mut place = hash_of(site) & (length - 1);
            while self.places.as_slice()[place] != 0 {
                place = (place + 1) & (length - 1);
            }
            self.places.as_mut_slice()[place] = number as u32 + 1;
        }
        true
    }
}

fn hash_of(site: &Site) -> usize {
    let mixed = (u64::from(site.stack) << 32) ^ site.usable_bytes ^ (site.rate_bytes << 13);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as usize
}
