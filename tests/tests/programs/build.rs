//! Builds: many small files, hard links, times that decide what is made again.

use super::{Place, everywhere, files_are_enough};
use alluxio_tests::modes::Mode;

#[test]
fn cargo_builds_and_knows_what_is_fresh() {
    everywhere(
        "cargo",
        "4MB",
        |place: &Place<'_>| {
            place.sh(
            r#"
            mkdir -p "$M"/crate/src "$M"/crate/helper/src; cd "$M"/crate
            printf '[package]\nname = "demo"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nhelper = { path = "helper" }\n' > Cargo.toml
            printf '[package]\nname = "helper"\nversion = "0.1.0"\nedition = "2021"\n' > helper/Cargo.toml
            echo 'pub fn answer() -> u32 { 42 }' > helper/src/lib.rs
            echo 'fn main() { println!("cargo:rustc-env=FROM=build"); }' > build.rs
            echo 'fn main() { println!("{} {}", env!("FROM"), helper::answer()); }' > src/main.rs
            cargo build --offline -q
            test "$(target/debug/demo)" = 'build 42'
            cargo build --offline -v 2> "$S"/second; grep -q 'Fresh demo' "$S"/second
            ! grep -q Compiling "$S"/second
            echo 'pub fn answer() -> u32 { 43 }' > helper/src/lib.rs
            cargo build --offline -q; test "$(target/debug/demo)" = 'build 43'
            "#,
        );
        },
        files_are_enough,
    );
}

/// Makes the smallest wheel there is.
const WHEEL: &str = r#"
import base64, hashlib, sys, zipfile
files = {
    'demo/__init__.py': b'ANSWER = 42\n',
    'demo-1.0.dist-info/METADATA': b'Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n',
    'demo-1.0.dist-info/WHEEL': b'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
    'demo-1.0.dist-info/entry_points.txt': b'[console_scripts]\ndemo = demo:main\n',
}
files['demo/__init__.py'] += b'def main():\n    print("answer", ANSWER)\n'
record = ''
for name, data in files.items():
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()
    record += f'{name},sha256={digest},{len(data)}\n'
files['demo-1.0.dist-info/RECORD'] = (record + 'demo-1.0.dist-info/RECORD,,\n').encode()
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    for name, data in files.items():
        wheel.writestr(name, data)
"#;

#[test]
fn pip_installs_into_a_virtual_environment() {
    everywhere(
        "pip",
        "16KB",
        |place: &Place<'_>| {
            // pip itself, some thousand files, is put there once; in the other modes the one of the system does the work.
            let (venv, pip) = match place.mode {
                Mode::Passthrough => ("", "\"$M\"/venv/bin/pip"),
                _ => ("--without-pip", "python3 -m pip --python \"$M\"/venv/bin/python"),
            };
            std::fs::write(place.scratch.join("wheel.py"), WHEEL).unwrap();
            let script = r#"
            python3 "$S"/wheel.py "$S"/demo-1.0-py3-none-any.whl
            python3 -m venv VENV "$M"/venv
            PIP install -q --no-index --disable-pip-version-check "$S"/demo-1.0-py3-none-any.whl
            "$M"/venv/bin/python -c 'import demo, sys; assert sys.prefix.endswith("venv"); print(demo.ANSWER)'
            "$M"/venv/bin/demo
            PIP check --disable-pip-version-check > /dev/null
            PIP uninstall -q -y --disable-pip-version-check demo
            test ! -e "$M"/venv/bin/demo
        "#;
            let printed = place.sh(&script.replace("VENV", venv).replace("PIP", pip));
            assert_eq!(printed, "42\nanswer 42\n");
        },
        files_are_enough,
    );
}
