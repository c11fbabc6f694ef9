//! `cargo run --release -p alluxio-master --example metastore_bench -- STORE COUNT DIR`: one store, its figures as a table.

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let store = args.next().unwrap_or_default();
    let count = args
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(alluxio_master::metastore::bench::COUNT_DEFAULT);
    let dir = args.next().ok_or_else(|| std::io::Error::other("name a folder"))?;
    let kinds = alluxio_master::metastore::StoreKind::ALL;
    for kind in kinds.into_iter().filter(|kind| kind.name() == store) {
        for row in alluxio_master::metastore::bench::run_one(kind, std::path::Path::new(&dir), count)? {
            println!(
                "| {} | {} | {} | {:.1} | {} |",
                row.store, row.operation, row.count, row.value, row.unit
            );
        }
    }
    Ok(())
}
