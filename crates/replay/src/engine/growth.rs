//! Resident growth of the worker over the moment before the first operation.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::resident::ResidentMeter;

/// Losses smaller than this share of the highest growth are not looked at beforehand.
const LOSS_DIVISOR: u64 = 32;
/// Nor are those smaller than this.
const LOSS_BYTES_MIN: u64 = 1 << 20;

/// A meter with a baseline, and the highest growth it has shown.
#[derive(Debug)]
pub(super) struct Growth {
    meter: ResidentMeter,
    baseline: AtomicU64,
    highest: AtomicU64,
}

impl Growth {
    /// A meter without a baseline yet.
    pub(super) fn new() -> io::Result<Self> {
        let (baseline, highest) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { meter: ResidentMeter::of_self()?, baseline, highest })
    }

    /// Sets the baseline to the present; it.
    pub(super) fn begin(&self) -> u64 {
        let bytes = self.meter.read().unwrap_or_default().bytes();
        self.baseline.store(bytes, Ordering::Relaxed);
        bytes
    }

    /// Growth now.
    pub(super) fn read(&self) -> u64 {
        let bytes = self.meter.read().unwrap_or_default().bytes();
        let growth = bytes.saturating_sub(self.baseline.load(Ordering::Relaxed));
        self.highest.fetch_max(growth, Ordering::Relaxed);
        growth
    }

    /// Highest growth read so far.
    pub(super) fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    /// `bytes` are about to be given back at once: reads before it, if they are so many that
    /// the samples could miss a peak.
    pub(super) fn before_loss(&self, bytes: usize) {
        let highest = self.highest();
        if bytes as u64 >= (highest / LOSS_DIVISOR).max(LOSS_BYTES_MIN) {
            self.read();
        }
    }
}
