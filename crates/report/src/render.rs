//! Writing the file: the bundled page with the packed data in its one gap.

use crate::page_data::PageData;
use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;
use flate2::Compression;
use flate2::write::GzEncoder;
use heapwright_advise::schema::ReportData;
use std::io::{self, Write};

/// The bundle of `web/`.
const TEMPLATE: &str = include_str!("../assets/report.html");
/// Where the data goes.
const GAP: &str = "{{DATA}}";

/// Writes the report as one HTML file that works offline and holds everything it shows.
///
/// The file is the page (under 150 KB) and the data, packed; `out` gets many small writes, so a
/// file should be buffered. Texts of the recording appear in it only inside gzip and base64.
/// O(size of `data`), with one copy of it packed in memory; about 0.1 s for 5,000 sites.
///
/// # Errors
/// Those of `out`. What was written before stays written.
///
/// # Examples
/// ```
/// let mut page = Vec::new();
/// heapwright_report::render(&Default::default(), &mut page)?;
/// assert!(page.starts_with(b"<!doctype html>"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn render(data: &ReportData, out: &mut impl Write) -> io::Result<()> {
    let (head, tail) = TEMPLATE.split_once(GAP).expect("the build of the page checks its gap");
    out.write_all(head.as_bytes())?;
    let mut packed = GzEncoder::new(EncoderWriter::new(&mut *out, &STANDARD), Compression::best());
    serde_json::to_writer(&mut packed, &PageData::new(data))?;
    packed.finish()?.finish()?;
    out.write_all(tail.as_bytes())
}
