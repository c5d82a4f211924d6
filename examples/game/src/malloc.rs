//! Everything on `malloc`: boxes for what lives alone, vectors for what comes in numbers.

use crate::Game;
use crate::rules::{
    ASSET_COUNT, DrawCommand, ENTITY_COUNT, Entity, FRAMES_A_ROOM, Particle, asset_bytes, digest,
    is_hit, sort,
};
use heapwright_testkit::Random;

/// The state between frames: boxed, as where other things point at entities.
#[expect(clippy::vec_box, reason = "blocks of their own are what this variant is about")]
pub(crate) struct MallocGame {
    random: Random,
    entities: Vec<Box<Entity>>,
    particles: Vec<Box<Particle>>,
    assets: Vec<Vec<u8>>,
}

impl MallocGame {
    pub(crate) fn new() -> Self {
        let mut random = Random::new(1);
        let entities = (0..ENTITY_COUNT).map(|_| spawn(&mut random)).collect();
        let assets = (0..ASSET_COUNT).map(|_| load_asset(&mut random)).collect();
        Self { random, entities, particles: Vec::new(), assets }
    }
}

#[inline(never)]
fn spawn(random: &mut Random) -> Box<Entity> {
    Box::new(Entity::spawn(random))
}

#[inline(never)]
fn load_asset(random: &mut Random) -> Vec<u8> {
    vec![7; asset_bytes(random)]
}

#[inline(never)]
fn spark(particle: Particle) -> Box<Particle> {
    Box::new(particle)
}

#[inline(never)]
fn label_of(entity: &Entity) -> String {
    let mut label = String::new();
    entity.label(&mut label);
    label
}

impl Game for MallocGame {
    fn frame(&mut self, number: u64) -> u64 {
        let Self { random, entities, particles, assets } = self;
        if number % FRAMES_A_ROOM == FRAMES_A_ROOM - 1 {
            // The next room: a third of the assets changes.
            for _ in 0..ASSET_COUNT / 3 {
                let index = random.below(ASSET_COUNT as u64) as usize;
                assets[index] = load_asset(random);
            }
        }
        let mut commands: Vec<Box<DrawCommand>> = Vec::new();
        let mut labels: Vec<String> = Vec::new();
        let mut dead = Vec::new();
        for (index, entity) in entities.iter_mut().enumerate() {
            entity.step(random);
            if entity.is_dead() {
                dead.push(index);
            }
            if is_hit(random) {
                particles.extend(entity.sparks(number, random).map(spark));
            }
            commands.push(Box::new(entity.draw()));
            labels.push(label_of(entity));
        }
        for index in dead {
            entities[index] = spawn(random);
        }
        particles.retain_mut(|particle| particle.step(number));
        commands.extend(particles.iter().map(|particle| Box::new(particle.draw())));
        let mut sorted: Vec<DrawCommand> = commands.iter().map(|one| **one).collect();
        sort(&mut sorted);
        let used = assets[number as usize % ASSET_COUNT][0];
        digest(&sorted, labels.iter().map(String::len).sum::<usize>() + used as usize)
    }
}
