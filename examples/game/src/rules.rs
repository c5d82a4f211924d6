//! The game itself: what there is, and what happens, whatever memory it is in.

use heapwright_testkit::Random;

/// Entities at the beginning; about as many at any time.
pub(crate) const ENTITY_COUNT: u64 = 4000;
/// Assets loaded at any time.
pub(crate) const ASSET_COUNT: usize = 24;
/// Frames between two changes of the assets: a door is opened.
pub(crate) const FRAMES_A_ROOM: u64 = 60;

/// Where something is and goes; with its looks 64 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entity {
    position: [f32; 3],
    velocity: [f32; 3],
    health: u32,
    asset: u32,
    name: [u8; 32],
}

/// A spark: short-lived, many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Particle {
    position: [f32; 3],
    velocity: [f32; 3],
    colour: u32,
    dies_at: u64,
}

/// What the frame draws; it lives until the next one is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DrawCommand {
    depth: u32,
    asset: u32,
    position: [f32; 3],
}

impl Entity {
    pub(crate) fn spawn(random: &mut Random) -> Self {
        let mut unit = || random.below(2000) as f32 / 1000.0 - 1.0;
        let mut entity = Self {
            position: [unit(), unit(), unit()],
            velocity: [unit(), unit(), unit()],
            health: 100,
            asset: random.below(ASSET_COUNT as u64) as u32,
            name: [0; 32],
        };
        entity.name[0] = b'a' + random.below(26) as u8;
        entity
    }

    /// Moves, and is hit now and then.
    pub(crate) fn step(&mut self, random: &mut Random) {
        for (place, speed) in self.position.iter_mut().zip(&mut self.velocity) {
            *place += *speed / 60.0;
            if place.abs() > 1.0 {
                *speed = -*speed;
            }
        }
        if random.below(400) == 0 {
            self.health = self.health.saturating_sub(40);
        }
    }

    /// Whether it died in this frame.
    pub(crate) fn is_dead(&self) -> bool {
        self.health == 0
    }

    pub(crate) fn draw(&self) -> DrawCommand {
        let depth = ((self.position[2] + 2.0) * 1_000_000.0) as u32;
        DrawCommand { depth, asset: self.asset, position: self.position }
    }

    /// What stands over its head: built anew each frame.
    pub(crate) fn label(&self, into: &mut impl std::fmt::Write) {
        // Neither a string nor an arena fails to take a few bytes.
        let _ = write!(into, "{} {}%", self.name[0] as char, self.health);
    }

    /// Sparks that fly when it is hit hard.
    pub(crate) fn sparks(
        &self,
        number: u64,
        random: &mut Random,
    ) -> impl Iterator<Item = Particle> {
        let count = if self.health < 60 { random.below(6) } else { 0 };
        let (position, velocity) = (self.position, self.velocity);
        let lives = 5 + random.below(50);
        (0..count).map(move |index| Particle {
            position,
            velocity: velocity.map(|speed| speed * index as f32),
            colour: index as u32,
            dies_at: number + lives + index,
        })
    }
}

impl Particle {
    /// Moves; whether it still glows.
    pub(crate) fn step(&mut self, number: u64) -> bool {
        for (place, speed) in self.position.iter_mut().zip(self.velocity) {
            *place += speed / 60.0;
        }
        number < self.dies_at
    }

    pub(crate) fn draw(&self) -> DrawCommand {
        let depth = ((self.position[2].clamp(-2.0, 2.0) + 2.0) * 1_000_000.0) as u32;
        DrawCommand { depth, asset: self.colour, position: self.position }
    }
}

/// Whether the sparks of an entity are drawn now: hits are seldom.
pub(crate) fn is_hit(random: &mut Random) -> bool {
    random.below(40) == 0
}

/// The length of an asset: a texture, a mesh or a sound.
pub(crate) fn asset_bytes(random: &mut Random) -> usize {
    match random.below(3) {
        0 => 1 << (14 + random.below(7)),
        1 => random.log_uniform(40_000, 900_000) as usize,
        _ => 1 << (16 + random.below(4)),
    }
}

/// What a frame comes to, so that nothing of it is optimised away.
pub(crate) fn digest(commands: &[DrawCommand], label_bytes: usize) -> u64 {
    let sum = commands.iter().enumerate().fold(0u64, |sum, (index, one)| {
        let place = u64::from(one.position[0].to_bits()) ^ u64::from(one.asset);
        sum.wrapping_mul(31).wrapping_add(u64::from(one.depth) ^ place ^ index as u64)
    });
    sum ^ (label_bytes as u64) << 40
}

/// The order in which a frame is drawn: far things first.
pub(crate) fn sort(commands: &mut [DrawCommand]) {
    commands.sort_unstable_by_key(|one| (one.depth, one.asset, one.position.map(f32::to_bits)));
}
