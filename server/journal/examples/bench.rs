//! Prints how fast the journal is in a folder: `cargo run --release -p alluxio-journal --example bench -- [DIR]`.

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    println!("{}", alluxio_journal::bench::run(dir.as_ref(), 9.0).await?);
    Ok(())
}
