//! Random programs, analysed by the library and by a slow model that keeps everything.

use std::collections::HashMap;

use heapwright_advise::Analysis;
use heapwright_symbols::Symbolizer;

use synthetic::{Block, Synthetic};

mod synthetic;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

#[derive(Clone, Copy)]
struct ModelBlock {
    block: Block,
    site: u64,
    thread: usize,
    size: u64,
    birth: u64,
}

#[derive(Clone, Default, Debug, PartialEq)]
struct ModelSite {
    allocs: u64,
    bytes: u64,
    peak: u64,
    end: u64,
    deaths: u64,
    same_thread: u64,
    lifo: u64,
    temporaries: u64,
    resized: u64,
    threads: Vec<usize>,
}

#[derive(Default)]
struct Model {
    /// In order of birth.
    live: Vec<ModelBlock>,
    sites: HashMap<u64, ModelSite>,
    last_born: HashMap<usize, u64>,
    resized: Vec<u64>,
    births: u64,
    peak: u64,
    temporaries: u64,
}

impl Model {
    fn live_bytes(&self) -> u64 {
        self.live.iter().map(|block| block.size).sum()
    }

    fn take_stock(&mut self) {
        if self.live_bytes() > self.peak {
            self.peak = self.live_bytes();
            self.sites.values_mut().for_each(|site| site.peak = 0);
            for block in &self.live {
                self.sites.get_mut(&block.site).expect("known").peak += block.size;
            }
        }
    }

    fn born(&mut self, block: Block, site: u64, thread: usize, size: u64) {
        let birth = self.births;
        self.births += 1;
        self.live.push(ModelBlock { block, site, thread, size, birth });
        let entry = self.sites.entry(site).or_default();
        entry.allocs += 1;
        entry.bytes += size;
        if !entry.threads.contains(&thread) {
            entry.threads.push(thread);
        }
        self.last_born.insert(thread, birth);
        self.take_stock();
    }

    fn died(&mut self, index: usize, thread: usize) {
        let dead = self.live[index];
        let in_lane = |block: &&ModelBlock| block.site == dead.site && block.thread == dead.thread;
        let youngest = self.live.iter().rfind(in_lane).expect("at least the dead one");
        let is_youngest = youngest.birth == dead.birth;
        let site = self.sites.get_mut(&dead.site).expect("known");
        site.deaths += 1;
        site.same_thread += u64::from(dead.thread == thread);
        site.lifo += u64::from(dead.thread == thread && is_youngest);
        if self.last_born.get(&thread) == Some(&dead.birth) {
            site.temporaries += 1;
            self.temporaries += 1;
        }
        self.live.remove(index);
    }

    fn resized(&mut self, index: usize, thread: usize, new: Block, size: u64) {
        let block = &mut self.live[index];
        let site = self.sites.get_mut(&block.site).expect("known");
        site.bytes += size.saturating_sub(block.size);
        if !self.resized.contains(&block.birth) {
            self.resized.push(block.birth);
            site.resized += 1;
        }
        if self.last_born.get(&thread) != Some(&block.birth) {
            self.last_born.remove(&thread);
        }
        block.size = size;
        block.block = new;
        self.take_stock();
    }
}

fn check(seed: u64) {
    let mut random = Random(seed);
    let (mut program, mut model) = (Synthetic::new(), Model::default());
    let threads = 1 + random.below(4);
    // Programs that grow, that shrink again, and that stay.
    let (births, resizes) = (30 + random.below(40), random.below(20));
    for _ in 0..1 + random.below(1500) {
        let thread = random.below(threads) as usize;
        let choice = random.below(100);
        if model.live.is_empty() || choice < births {
            let site = 0x100 * (1 + random.below(6));
            let size = [8, 8, 24, random.below(5000)][random.below(4) as usize];
            let block = program.malloc(thread, size, &[site, 0x9000 + random.below(3), 0xa000]);
            model.born(block, site, thread, size);
        } else {
            let count = model.live.len() as u64;
            // Often the youngest.
            let index = if random.below(2) == 0 { count - 1 } else { random.below(count) } as usize;
            let block = model.live[index];
            let thread = if random.below(3) == 0 { thread } else { block.thread };
            if choice < births + resizes {
                let size = random.below(3000);
                let new = program.realloc(thread, block.block, size, &[0xb00]);
                model.resized(index, thread, new, size);
            } else {
                program.free(thread, block.block);
                model.died(index, thread);
            }
        }
    }
    for block in &model.live {
        model.sites.get_mut(&block.site).expect("known").end += block.size;
    }
    let (_folder, recording) = program.finish();
    let analysis = Analysis::new(&recording, 0, &mut Symbolizer::new(), &mut |_, _| {});
    let analysis = analysis.expect("at least one allocation");
    assert_eq!(analysis.totals.peak_live_bytes, model.peak, "seed {seed}");
    assert_eq!(analysis.totals.end_live_bytes, model.live_bytes(), "seed {seed}");
    assert_eq!(analysis.totals.end_live_blocks, model.live.len() as u64, "seed {seed}");
    assert_eq!(analysis.totals.temporaries, model.temporaries, "seed {seed}");
    assert_eq!(analysis.sites.len(), model.sites.len(), "seed {seed}");
    let peak: u64 = analysis.sites.iter().map(|site| site.live_at_peak_bytes).sum();
    assert_eq!(peak, model.peak, "the sites hold the whole peak, seed {seed}");
    assert!(analysis.sites.is_sorted_by(|a, b| a.bytes >= b.bytes), "seed {seed}");
    for (call, expected) in &model.sites {
        let name = format!("{:#x}", call - 1);
        let site = analysis.sites.iter().find(|site| site.function == name).expect("a site");
        let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        let same_thread =
            if expected.deaths == 0 { 1.0 } else { share(expected.same_thread, expected.deaths) };
        assert_eq!(
            (site.allocs, site.bytes, site.live_at_peak_bytes, site.live_at_end_bytes),
            (expected.allocs, expected.bytes, expected.peak, expected.end),
            "seed {seed} site {name}"
        );
        assert_eq!(site.same_thread_share, same_thread, "seed {seed} site {name}");
        assert_eq!(site.lifo_share, share(expected.lifo, expected.deaths), "seed {seed} {name}");
        assert_eq!(site.realloc_share, share(expected.resized, expected.allocs), "seed {seed}");
        assert_eq!(site.threads as usize, expected.threads.len(), "seed {seed} site {name}");
        let temporary = share(expected.temporaries, expected.allocs);
        assert_eq!(site.temporary_share, temporary, "seed {seed} site {name}");
    }
}

#[test]
fn random_programs_give_the_models_figures() {
    for seed in 1..=120 {
        check(seed);
    }
}
