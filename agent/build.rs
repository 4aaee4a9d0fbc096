//! Links the engines that come as C libraries, and names the Debian package of one that is missing.

use std::path::Path;
use std::process::{Command, exit};

/// Libraries in the order of linking, and the Debian package that each is in.
const LIBRARIES: [(&str, &str); 9] = [
    ("pocketsphinx", "libpocketsphinx-dev"),
    ("sphinxbase", "libsphinxbase-dev"),
    ("flite_cmu_us_rms", "flite1-dev"),
    ("flite_cmu_us_slt", "flite1-dev"),
    ("flite_cmu_us_awb", "flite1-dev"),
    ("flite_cmu_us_kal16", "flite1-dev"),
    ("flite_usenglish", "flite1-dev"),
    ("flite_cmulex", "flite1-dev"),
    ("flite", "flite1-dev"),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBRARY_PATH");
    for (library, package) in LIBRARIES {
        if is_missing(library) {
            eprintln!("the library lib{library}.so is not installed: apt-get install {package} (scripts/test does)");
            exit(1);
        }
        println!("cargo:rustc-link-lib={library}");
    }
    println!("cargo:rustc-link-lib=m");
}

/// Whether the C compiler, which links in the end, knows no such library. Without one, nobody can tell.
fn is_missing(library: &str) -> bool {
    let file = format!("lib{library}.so");
    let Ok(answer) = Command::new("cc").arg(format!("-print-file-name={file}")).output() else { return false };
    // A path where it is found, the name alone where it isn't.
    !Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_absolute()
}
