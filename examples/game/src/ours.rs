//! Each kind of memory on the allocator made for it.

use crate::Game;
use crate::rules::{
    ASSET_COUNT, DrawCommand, ENTITY_COUNT, Entity, FRAMES_A_ROOM, Particle, asset_bytes, digest,
    is_hit, sort,
};
use heapwright_regions::{AllocError, AnonymousPages, CompactingHeap, Handle, HandlePool, Linear};
use heapwright_testkit::Random;
use std::time::Duration;

/// What a frame has for closing the gaps that assets of former rooms left.
const COMPACTION_TIME: Duration = Duration::from_micros(100);

/// The state between frames.
pub(crate) struct OurGame {
    random: Random,
    entities: HandlePool<Entity, AnonymousPages>,
    order: Vec<Handle<Entity>>,
    particles: HandlePool<Particle, AnonymousPages>,
    sparks: Vec<Handle<Particle>>,
    heap: CompactingHeap<AnonymousPages>,
    assets: Vec<Handle<[u8]>>,
    /// Blocks of a frame; the last frame's are there for the renderer while this one is made.
    arenas: [Linear<AnonymousPages>; 2],
}

impl OurGame {
    pub(crate) fn new() -> Result<Self, AllocError> {
        let mut random = Random::new(1);
        let mut entities = HandlePool::new_in(AnonymousPages);
        let mut order = Vec::new();
        for _ in 0..ENTITY_COUNT {
            order.push(put(&mut entities, Entity::spawn(&mut random))?);
        }
        let heap = CompactingHeap::new_in(AnonymousPages);
        let mut assets = Vec::new();
        for _ in 0..ASSET_COUNT {
            assets.push(load_asset(&heap, &mut random)?);
        }
        let arenas = [Linear::new(), Linear::new()];
        let particles = HandlePool::new_in(AnonymousPages);
        Ok(Self { random, entities, order, particles, sparks: Vec::new(), heap, assets, arenas })
    }

    fn next_room(&mut self) -> Result<(), AllocError> {
        for _ in 0..ASSET_COUNT / 3 {
            let index = self.random.below(ASSET_COUNT as u64) as usize;
            let fresh = load_asset(&self.heap, &mut self.random)?;
            let old = std::mem::replace(&mut self.assets[index], fresh);
            let removed = self.heap.remove(old);
            debug_assert!(removed.is_ok(), "{removed:?}");
        }
        Ok(())
    }

    fn play(&mut self, number: u64) -> Result<u64, AllocError> {
        if number % FRAMES_A_ROOM == FRAMES_A_ROOM - 1 {
            self.next_room()?;
        }
        let Self { random, entities, order, particles, sparks, heap, assets, arenas } = self;
        heap.compact_for(COMPACTION_TIME, |_| {});
        let arena = &mut arenas[number as usize % 2];
        arena.reset();
        let most = order.len() + sparks.len() + order.len() * 6;
        let commands = arena.try_alloc_slice_uninit::<DrawCommand>(most)?;
        let (mut count, mut label_bytes) = (0, 0);
        for name in order.iter_mut() {
            let Some(entity) = entities.get_mut(*name) else { continue };
            entity.step(random);
            if is_hit(random) {
                for particle in entity.sparks(number, random) {
                    sparks.push(put(particles, particle)?);
                }
            }
            commands[count].write(entity.draw());
            count += 1;
            label_bytes += label_of(arena, entity)?;
        }
        for name in order.iter_mut() {
            if entities.get(*name).is_some_and(Entity::is_dead) {
                entities.remove(*name);
                *name = put(entities, Entity::spawn(random))?;
            }
        }
        sparks.retain(|name| {
            let Some(particle) = particles.get_mut(*name) else { return false };
            if !particle.step(number) {
                particles.remove(*name);
                return false;
            }
            commands[count].write(particle.draw());
            count += 1;
            true
        });
        // SAFETY: the first `count` were written above.
        let commands = unsafe { commands[..count].assume_init_mut() };
        sort(commands);
        let used = heap.pin(assets[number as usize % ASSET_COUNT]).map_or(0, |asset| asset[0]);
        Ok(digest(commands, label_bytes + used as usize))
    }
}

/// A value into a pool, or why not.
fn put<T>(pool: &mut HandlePool<T, AnonymousPages>, value: T) -> Result<Handle<T>, AllocError> {
    match pool.insert(value) {
        Ok(handle) => Ok(handle),
        Err(value) => {
            pool.try_reserve(1)?;
            let full = AllocError::TooLarge { requested_bytes: size_of::<T>() };
            pool.insert(value).map_err(|_| full)
        }
    }
}

fn load_asset(
    heap: &CompactingHeap<AnonymousPages>,
    random: &mut Random,
) -> Result<Handle<[u8]>, AllocError> {
    let asset = heap.insert_zeroed(asset_bytes(random))?;
    if let Ok(mut bytes) = heap.pin_mut(asset) {
        bytes.fill(7);
    }
    Ok(asset)
}

/// The bytes of an entity's label, made in the arena.
fn label_of(arena: &Linear<AnonymousPages>, entity: &Entity) -> Result<usize, AllocError> {
    struct Text<'a> {
        arena: &'a mut [u8],
        length: usize,
    }
    impl std::fmt::Write for Text<'_> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            let end = self.length + text.len();
            let room = self.arena.get_mut(self.length..end).ok_or(std::fmt::Error)?;
            room.copy_from_slice(text.as_bytes());
            self.length = end;
            Ok(())
        }
    }
    let mut text = Text { arena: arena.try_alloc_zeroed(16)?, length: 0 };
    entity.label(&mut text);
    Ok(text.length)
}

impl Game for OurGame {
    fn frame(&mut self, number: u64) -> u64 {
        // A game that has no memory left ends; this one says why.
        self.play(number).unwrap_or_else(|error| panic!("frame {number}: {error}"))
    }
}
