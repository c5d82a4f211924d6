//! Export of a recording's events as a Parquet table (feature `parquet`).
//!
//! One row a change of an object, in order of time:
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `time_ns` | int64 | nanoseconds since the first event |
//! | `thread` | int32 | number of the thread in the process |
//! | `event` | string | `alloc`, `resize`, `free`, `trim` (a part unmapped) or `failed` |
//! | `object` | int64, null for `failed` | number of the block; the same from alloc to free |
//! | `size` | int64 | bytes requested; for `free` the block's, for `trim` the part's |
//! | `old_size` | int64, only `resize` | bytes before |
//! | `align` | int32 | alignment asked for, 0 for none |
//! | `kind` | string, null for `trim` and `failed` | `malloc`, `new`, ..., `free`, `delete`, ... |
//! | `weight` | double | blocks this one stands for; 1 unless the recording is a sample |
//! | `stack` | int32, only `alloc`, `resize`, `failed` | number of the stack |
//! | `site` | int32, null without a site | `id` of the call site in `advice.json` |
//! | `function` | string, null without a site | the site's function |

use std::io::Write;
use std::sync::Arc;

use heapwright_format::AllocKind;
use heapwright_format::file::Recording;
use heapwright_format::objects::Change;
use heapwright_format::stacks::StackId;
use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use crate::analysis::{AnalyseError, Analysis};
use crate::walk::{Step, walk};
use crate::weight::Weights;

const SCHEMA: &str = "message events {
    REQUIRED INT64 time_ns;
    REQUIRED INT32 thread;
    REQUIRED BYTE_ARRAY event (UTF8);
    OPTIONAL INT64 object;
    REQUIRED INT64 size;
    OPTIONAL INT64 old_size;
    REQUIRED INT32 align;
    OPTIONAL BYTE_ARRAY kind (UTF8);
    REQUIRED DOUBLE weight;
    OPTIONAL INT32 stack;
    OPTIONAL INT32 site;
    OPTIONAL BYTE_ARRAY function (UTF8);
}";

/// Rows of a row group; its columns are held in memory (some 100 MB).
const GROUP_ROWS: usize = 1 << 20;

/// Why an export failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExportError {
    /// The recording cannot be read.
    Analyse(AnalyseError),
    /// The table cannot be written.
    Write(ParquetError),
}

impl std::fmt::Display for ExportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Analyse(error) => error.fmt(f),
            Self::Write(error) => write!(f, "the Parquet file cannot be written: {error}"),
        }
    }
}

impl std::error::Error for ExportError {}

/// Writes the events of process number `process` of `recording` to `out`; stacks and sites are
/// those of `analysis`, which must be of the same process. `progress` gets events done and all.
///
/// # Errors
/// [`ExportError`]; what was written before is no valid file.
pub fn write_events(
    recording: &Recording,
    process: usize,
    analysis: &Analysis,
    out: impl Write + Send,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), ExportError> {
    let schema = parse_message_type(SCHEMA).map_err(ExportError::Write)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))
        .map_err(ExportError::Write)?;
    let mut rows = Rows::new(recording, analysis);
    let mut result = Ok(());
    walk(recording, process, progress, |step| {
        rows.push(step);
        if rows.time_ns.len() >= GROUP_ROWS && result.is_ok() {
            result = rows.flush(&mut writer);
        }
        if result.is_err() {
            rows.clear();
        }
    })
    .map_err(ExportError::Analyse)?;
    result.and_then(|()| rows.flush(&mut writer)).map_err(ExportError::Write)?;
    writer.close().map_err(ExportError::Write)?;
    Ok(())
}

/// A column with gaps: values and, for each row, whether it has one.
struct Optional<T> {
    values: Vec<T>,
    levels: Vec<i16>,
}

impl<T> Default for Optional<T> {
    fn default() -> Self {
        Self { values: Vec::new(), levels: Vec::new() }
    }
}

impl<T> Optional<T> {
    fn push(&mut self, value: Option<T>) {
        self.levels.push(value.is_some().into());
        self.values.extend(value);
    }

    fn clear(&mut self) {
        self.values.clear();
        self.levels.clear();
    }
}

struct Rows<'a> {
    analysis: &'a Analysis,
    weights: Weights,
    ns_per_unit: f64,
    first_time: Option<u64>,
    functions: Vec<ByteArray>,
    time_ns: Vec<i64>,
    thread: Vec<i32>,
    event: Vec<ByteArray>,
    object: Optional<i64>,
    size: Vec<i64>,
    old_size: Optional<i64>,
    align: Vec<i32>,
    kind: Optional<ByteArray>,
    weight: Vec<f64>,
    stack: Optional<i32>,
    site: Optional<i32>,
    function: Optional<ByteArray>,
}

/// What differs between the kinds of rows.
#[derive(Default)]
struct Row {
    event: &'static str,
    object: Option<i64>,
    size: u64,
    old_size: Option<u64>,
    align_log2: u8,
    kind: Option<&'static str>,
    stack: Option<StackId>,
    is_weighted: bool,
}

impl<'a> Rows<'a> {
    fn new(recording: &Recording, analysis: &'a Analysis) -> Self {
        let text = |name: &String| ByteArray::from(name.as_bytes().to_vec());
        Self {
            analysis,
            weights: Weights::new(recording.session().sample_bytes),
            ns_per_unit: 1e9 / recording.units_per_second(),
            first_time: None,
            functions: analysis.sites.iter().map(|site| text(&site.function)).collect(),
            time_ns: Vec::new(),
            thread: Vec::new(),
            event: Vec::new(),
            object: Optional::default(),
            size: Vec::new(),
            old_size: Optional::default(),
            align: Vec::new(),
            kind: Optional::default(),
            weight: Vec::new(),
            stack: Optional::default(),
            site: Optional::default(),
            function: Optional::default(),
        }
    }

    fn push(&mut self, step: &Step) {
        let first = *self.first_time.get_or_insert(step.time);
        let Some(row) = row(&step.change) else { return };
        let bytes = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.time_ns.push((step.time.saturating_sub(first) as f64 * self.ns_per_unit) as i64);
        self.thread.push(step.thread as i32);
        self.event.push(ByteArray::from(row.event));
        self.object.push(row.object);
        self.size.push(bytes(row.size));
        self.old_size.push(row.old_size.map(bytes));
        self.align.push(match row.align_log2 {
            0 => 0,
            log2 => 1i32.checked_shl(log2.into()).unwrap_or(0),
        });
        self.kind.push(row.kind.map(ByteArray::from));
        self.weight.push(if row.is_weighted { self.weights.of(row.size) } else { 1.0 });
        self.stack.push(row.stack.map(|stack| stack.0 as i32));
        let site = row.stack.and_then(|stack| self.analysis.site_of(stack));
        self.site.push(site.map(|site| site as i32));
        self.function.push(site.map(|site| self.functions[site as usize].clone()));
    }

    fn flush<W: Write + Send>(
        &mut self,
        writer: &mut SerializedFileWriter<W>,
    ) -> Result<(), ParquetError> {
        let mut group = writer.next_row_group()?;
        let mut column_index = 0;
        while let Some(mut column) = group.next_column()? {
            self.write_column(column_index, column.untyped())?;
            column.close()?;
            column_index += 1;
        }
        group.close()?;
        self.clear();
        Ok(())
    }

    fn write_column(
        &self,
        index: usize,
        column: &mut ColumnWriter<'_>,
    ) -> Result<(), ParquetError> {
        match (index, column) {
            (0, ColumnWriter::Int64ColumnWriter(c)) => c.write_batch(&self.time_ns, None, None),
            (1, ColumnWriter::Int32ColumnWriter(c)) => c.write_batch(&self.thread, None, None),
            (2, ColumnWriter::ByteArrayColumnWriter(c)) => c.write_batch(&self.event, None, None),
            (3, ColumnWriter::Int64ColumnWriter(c)) => {
                c.write_batch(&self.object.values, Some(&self.object.levels), None)
            }
            (4, ColumnWriter::Int64ColumnWriter(c)) => c.write_batch(&self.size, None, None),
            (5, ColumnWriter::Int64ColumnWriter(c)) => {
                c.write_batch(&self.old_size.values, Some(&self.old_size.levels), None)
            }
            (6, ColumnWriter::Int32ColumnWriter(c)) => c.write_batch(&self.align, None, None),
            (7, ColumnWriter::ByteArrayColumnWriter(c)) => {
                c.write_batch(&self.kind.values, Some(&self.kind.levels), None)
            }
            (8, ColumnWriter::DoubleColumnWriter(c)) => c.write_batch(&self.weight, None, None),
            (9, ColumnWriter::Int32ColumnWriter(c)) => {
                c.write_batch(&self.stack.values, Some(&self.stack.levels), None)
            }
            (10, ColumnWriter::Int32ColumnWriter(c)) => {
                c.write_batch(&self.site.values, Some(&self.site.levels), None)
            }
            (11, ColumnWriter::ByteArrayColumnWriter(c)) => {
                c.write_batch(&self.function.values, Some(&self.function.levels), None)
            }
            (index, _) => Err(ParquetError::General(format!("no column {index} of this type"))),
        }
        .map(|_| ())
    }

    fn clear(&mut self) {
        self.time_ns.clear();
        self.thread.clear();
        self.event.clear();
        self.object.clear();
        self.size.clear();
        self.old_size.clear();
        self.align.clear();
        self.kind.clear();
        self.weight.clear();
        self.stack.clear();
        self.site.clear();
        self.function.clear();
    }
}

/// The row of `change`; none when it is no event of an object.
fn row(change: &Change) -> Option<Row> {
    Some(match *change {
        Change::Born { object, size, align_log2, kind, stack } => Row {
            event: "alloc",
            object: Some(object.0.into()),
            size,
            align_log2,
            kind: Some(kind.name()),
            stack: Some(stack),
            is_weighted: kind != AllocKind::Mmap,
            ..Row::default()
        },
        Change::Resized { object, old_size, size, stack, .. } => Row {
            event: "resize",
            object: Some(object.0.into()),
            size,
            old_size: Some(old_size),
            kind: Some(AllocKind::Realloc.name()),
            stack: Some(stack),
            ..Row::default()
        },
        Change::Died { object, size, kind } => Row {
            event: "free",
            object: Some(object.0.into()),
            size,
            kind: Some(kind.name()),
            ..Row::default()
        },
        Change::Trimmed { object, bytes, .. } => {
            Row { event: "trim", object: Some(object.0.into()), size: bytes, ..Row::default() }
        }
        Change::Failed { size, stack } => {
            Row { event: "failed", size, stack: Some(stack), ..Row::default() }
        }
        _ => return None,
    })
}
