//! The keys we honour, one module per owner, so that each crate's keys stand together.
//!
//! To add one, write it inside `keys! { … }` of your module, as its neighbours are written. That makes the constant and
//! enters it in the module's `ALL`, from which loading, validation, `getConf` and `docs/configuration.md` take it; a test
//! finds constants that stand outside. Use Alluxio's name and default where there are such; where ours differ, `doc`
//! says why. Then run `cargo xtask docs`. A new module goes into [`MODULES`].

use super::Key;

/// Declares the keys of a module and its `ALL`.
macro_rules! keys {
    ($($(#[$meta:meta])* pub const $name:ident: Key = $value:expr;)*) => {
        $($(#[$meta])* pub const $name: Key = $value;)*

        /// All keys of this module.
        pub const ALL: &[Key] = &[$($name),*];
    };
}

pub mod fuse;
pub mod general;
pub mod master;
pub mod underfs;
pub mod user;
pub mod worker;

/// The modules and what their keys are about, in the order of the document.
pub const MODULES: &[(&str, &[Key])] = &[
    ("All roles", general::ALL),
    ("Master", master::ALL),
    ("Worker", worker::ALL),
    ("Clients", user::ALL),
    ("FUSE", fuse::ALL),
    ("Under-storages", underfs::ALL),
];

/// All keys we honour.
pub fn all() -> impl Iterator<Item = &'static Key> {
    MODULES.iter().flat_map(|(_, keys)| keys.iter())
}
