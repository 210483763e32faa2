//! Every target against its seeds and what becomes of them: bytes flipped, cut, doubled, and pieces of other seeds put in.
//!
//! Bounded and repeatable, so that it runs with the other tests on a stable compiler. `CLOAKROOM_FUZZ_SECONDS` lets each target run longer,
//! `CLOAKROOM_FUZZ_SEED` makes it another run. A finding is printed, and belongs among the seeds.

#[cfg(test)]
mod targets;

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::targets::ALL;

    const RUNS: usize = 20_000;
    const LONGEST: usize = 4096;

    #[test]
    fn no_input_breaks_a_promise() {
        let setting = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let length = setting("CLOAKROOM_FUZZ_SECONDS").map(Duration::from_secs);
        let mut rng = StdRng::seed_from_u64(setting("CLOAKROOM_FUZZ_SEED").unwrap_or(1));
        for (name, target) in ALL {
            let seeds = seeds(name);
            let (started, mut runs) = (Instant::now(), 0);
            while length.map_or(runs < RUNS, |length| started.elapsed() < length) {
                let input = if runs < seeds.len() { seeds[runs].clone() } else { mutated(&seeds, &mut rng) };
                assert!(catch_unwind(|| target(&input)).is_ok(), "{name}: {}", input.escape_ascii());
                runs += 1;
            }
        }
    }

    /// A file each, in a folder named like the target.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "no seeds for {target}");
        files.iter().map(|file| std::fs::read(file).unwrap()).collect()
    }

    fn mutated(seeds: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
        const TELLING: [&[u8]; 16] = [
            b"\r\n",
            b"\n",
            b"\0",
            b"%2f",
            b"%00",
            b"..",
            b"//",
            b";",
            b"\r\n\r\n",
            b"\"",
            b"{",
            b"\xff",
            b"%25",
            b": ",
            b"\t",
            b"\\",
        ];
        let mut bytes = seeds[rng.random_range(0..seeds.len())].clone();
        for _ in 0..rng.random_range(1..=6) {
            let at = rng.random_range(0..=bytes.len());
            let end = (at + rng.random_range(0..=16)).min(bytes.len());
            match rng.random_range(0..6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
                1 => drop(bytes.drain(at..end)),
                2 => drop(bytes.splice(at..at, [rng.random_range(0..=255_u8)])),
                3 => drop(bytes.splice(at..at, TELLING[rng.random_range(0..TELLING.len())].iter().copied())),
                4 => {
                    let again = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, again));
                }
                _ => {
                    let other = &seeds[rng.random_range(0..seeds.len())];
                    let from = rng.random_range(0..=other.len());
                    drop(bytes.splice(at..end, other[from..].iter().take(64).copied()));
                }
            }
            bytes.truncate(LONGEST);
        }
        bytes
    }
}
