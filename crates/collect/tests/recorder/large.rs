//! Large blocks and mappings: which of their pages were touched.

use heapwright_format::AllocKind;

use crate::recorded::record_whole;

#[test]
fn touched_pages_of_large_blocks_are_known() {
    let run = record_whole("touched_pages", &[]);
    run.expect_counts();
    let touched: u32 = run
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("touched "))
        .and_then(|pages| pages.parse().ok())
        .expect("a number of pages");
    let facts = run.facts();
    let most = facts.touched.iter().map(|&(_, resident, _)| resident).max().expect("reports");
    assert!((touched..=touched + 2).contains(&most), "{most} pages of {touched}");
    let cold = facts.touched.iter().filter(|&&(_, _, pages)| pages < 1500);
    assert!(cold.clone().count() >= 1 && cold.clone().all(|&(_, resident, _)| resident <= 2));
}

#[test]
fn mappings_are_followed_through_cuts_and_overlaps_and_large_blocks_through_failed_reallocs() {
    let run = record_whole("large_blocks", &[]);
    run.expect_counts();
    let facts = run.facts();
    assert_eq!(facts.own_live(), 0);
    assert_eq!((facts.matches.unknown_frees, facts.matches.lost_frees), (0, 0));
    assert_eq!(facts.failures, [u64::MAX / 4]);
    let maps: Vec<u64> = facts
        .births
        .iter()
        .filter(|birth| birth.kind == AllocKind::Mmap)
        .map(|birth| birth.size)
        .collect();
    assert!([1 << 20, 1 << 16, 1 << 42].iter().all(|size| maps.contains(size)), "{maps:?}");
    // 1 MiB + 27 bytes: pages 0 to 9 were written, the failed resizing did not end the watch.
    let kept = facts
        .touched
        .iter()
        .any(|&(_, resident, pages)| (257..=258).contains(&pages) && (10..=11).contains(&resident));
    assert!(kept, "{:?}", facts.touched.first());
    let mapping = facts.touched.iter().any(|&(_, resident, pages)| (resident, pages) == (64, 256));
    assert!(mapping, "the mapping was asked about before it was cut");
    // 3000 blocks of 131 KB and more, one or two pages of each touched.
    let watched = facts.touched.iter().filter(|&&(_, _, pages)| (33..=34).contains(&pages));
    assert_eq!(watched.count(), 3000);
}
