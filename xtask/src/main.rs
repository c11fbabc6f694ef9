//! Everything that is not the product: `cargo xtask test`, `cargo xtask bench NAME`, `cargo xtask docs`.

mod bench;
mod docs;
mod posix;
mod setup;
mod test;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Run the tests, the benches, and what generates documents"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests need, build, and run all of them
    Test {
        /// `all`: also what takes long; `posix`: the POSIX suite, the reference test, real programs and bad input; otherwise only
        /// tests whose name contains this
        filter: Option<String>,
        /// Transport of the mounts under test, as `-o transport=` takes it
        #[arg(long)]
        transport: Option<String>,
    },
    /// Run a benchmark in release mode and print a table of ratios; JSON goes to target/bench/NAME.json
    Bench {
        /// One of the names that `bench list` prints, or `all`
        name: String,
        /// Rounds of each measurement, alternating with the baseline; the median counts
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Write the documents that are generated from code
    Docs,
    /// Install what the tests need, and nothing else
    Setup,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Test { filter, transport } => test::run(filter.as_deref(), transport.as_deref()),
        Task::Bench { name, rounds } => bench::run(&name, rounds),
        Task::Docs => docs::write(),
        Task::Setup => setup::tools().map(drop),
    }
}
