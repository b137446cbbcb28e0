//! Where counting begins and ends.

/// Does some work, counted: so many operations, with so many of something held.
pub(crate) fn measure(name: &str, size: usize, operations: usize, mut work: impl FnMut()) {
    println!("{name}\t{size}\t{operations}");
    mark();
    work();
    mark();
}

/// Callgrind knows it by its name, and begins another dump when it is called.
#[inline(never)]
fn mark() {
    std::hint::black_box(());
}
