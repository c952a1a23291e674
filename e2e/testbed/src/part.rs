//! The three parts that a testbed is made of: their recipes, inputs, and the key that names what they make.
//!
//! The key is a hash of the texts, not of package versions: a cached part stays until its recipe changes.

use std::fmt;

use sha2::{Digest, Sha256};

/// What each recipe starts with: output and errors in one log, a line a step, and a private apt.
const PRELUDE: &str =
    concat!("exec 2>&1\numask 022\nstep() { echo \"@step $*\"; }\n", include_str!("../parts/apt.sh"));

/// One part: a shell recipe, and the files it reads.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) recipe: &'static str,
    /// Path below `$INPUTS`, and text.
    pub(crate) inputs: &'static [(&'static str, &'static str)],
}

/// The emulator, its libraries and its firmware.
pub(crate) const QEMU: Part = Part { name: "qemu", recipe: include_str!("../parts/qemu.sh"), inputs: &[] };

/// The guest's kernel, and its modules as an image.
pub(crate) const KERNEL: Part = Part {
    name: "kernel",
    recipe: include_str!("../parts/kernel.sh"),
    inputs: &[("kernel.config", include_str!("../kernel.config"))],
};

/// The guest's root file system as an image.
pub(crate) const ROOT: Part = Part {
    name: "root",
    recipe: include_str!("../parts/root.sh"),
    inputs: &[
        ("guest/init", include_str!("../guest/init")),
        ("guest/doorbell-reset", include_str!("../guest/doorbell-reset")),
    ],
};

/// Names one state of a part's inputs, in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Part {
    /// The key of what this recipe makes of these inputs.
    pub(crate) fn key(&self) -> Key {
        let mut hash = Sha256::new();
        // Lengths are hashed too, so that text that moves from one file to the next changes the key.
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        add(&self.script());
        for (path, text) in self.inputs {
            add(path);
            add(text);
        }
        // 64 bits of it name an entry well enough, and keep paths readable.
        Key(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// The whole script, for `sh -eu`.
    pub(crate) fn script(&self) -> String {
        format!("{PRELUDE}{}", self.recipe)
    }

    /// The host's packages that the recipe needs: its line `# apt: ...`.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &'static str> {
        self.recipe.lines().filter_map(|line| line.strip_prefix("# apt: ")).flat_map(str::split_whitespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Part =
        Part { name: "plain", recipe: "# apt: a b\ntrue\n", inputs: &[("f", "1"), ("g", "2")] };

    #[test]
    fn key_changes_with_recipe_and_inputs() {
        let changed = [
            Part { recipe: "# apt: a b\nfalse\n", ..PLAIN },
            Part { inputs: &[("f", "1"), ("g", "3")], ..PLAIN },
            Part { inputs: &[("f", "1"), ("h", "2")], ..PLAIN },
            Part { inputs: &[("f", "1g2"), ("", "")], ..PLAIN },
        ];
        for part in changed {
            assert_ne!(part.key(), PLAIN.key(), "{part:?}");
        }
    }

    #[test]
    fn key_is_the_same_for_the_same_inputs() {
        assert_eq!(Part { ..PLAIN }.key(), PLAIN.key());
        assert_eq!(PLAIN.key().to_string().len(), 16);
    }

    #[test]
    fn packages_come_from_the_recipe() {
        assert_eq!(PLAIN.packages().collect::<Vec<_>>(), ["a", "b"]);
        for part in [QEMU, KERNEL, ROOT] {
            assert!(part.packages().count() > 0, "{}", part.name);
        }
    }
}
