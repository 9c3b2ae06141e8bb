//! Parquet files, written here by the crate that reads them; damaged ones are refused.

use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, Repetition, Type as PhysicalType, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::folder::{Folder, golds};

/// A column of a file.
pub(crate) enum Cells<'a> {
    Texts(Vec<&'a str>),
    /// As bytes that are not marked as text.
    Bytes(Vec<&'a [u8]>),
    Integers(Vec<i64>),
    Floats(Vec<f64>),
}

pub(crate) fn parquet(columns: &[(&str, Cells<'_>)]) -> Vec<u8> {
    compressed(columns, Compression::SNAPPY)
}

fn compressed(columns: &[(&str, Cells<'_>)], compression: Compression) -> Vec<u8> {
    let field = |(name, cells): &(&str, Cells<'_>)| {
        let (physical, converted) = match cells {
            Cells::Texts(_) => (PhysicalType::BYTE_ARRAY, ConvertedType::UTF8),
            Cells::Bytes(_) => (PhysicalType::BYTE_ARRAY, ConvertedType::NONE),
            Cells::Integers(_) => (PhysicalType::INT64, ConvertedType::NONE),
            Cells::Floats(_) => (PhysicalType::DOUBLE, ConvertedType::NONE),
        };
        let field = Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::REQUIRED)
            .with_converted_type(converted);
        Arc::new(field.build().expect("a plain column"))
    };
    let fields = columns.iter().map(field).collect();
    let schema = Type::group_type_builder("schema").with_fields(fields).build().expect("a schema");
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))
        .expect("memory takes it");
    let mut group = file.next_row_group().expect("memory takes it");
    for (_, cells) in columns {
        let mut column = group.next_column().expect("memory takes it").expect("a column is left");
        let bytes = |values: Vec<&[u8]>| {
            values.into_iter().map(|b| ByteArray::from(b.to_vec())).collect::<Vec<_>>()
        };
        let written = match cells {
            Cells::Texts(texts) => column.typed::<ByteArrayType>().write_batch(
                &bytes(texts.iter().map(|text| text.as_bytes()).collect()),
                None,
                None,
            ),
            Cells::Bytes(values) => {
                column.typed::<ByteArrayType>().write_batch(&bytes(values.clone()), None, None)
            }
            Cells::Integers(values) => column.typed::<Int64Type>().write_batch(values, None, None),
            Cells::Floats(values) => column.typed::<DoubleType>().write_batch(values, None, None),
        };
        written.expect("memory takes it");
        column.close().expect("memory takes it");
    }
    group.close().expect("memory takes it");
    file.into_inner().expect("memory takes it")
}

fn columns() -> [(&'static str, Cells<'static>); 3] {
    [
        ("question", Cells::Texts(vec!["a?", "b?", "c?"])),
        ("answer", Cells::Floats(vec![1.0, 2.5, -3.0])),
        ("year", Cells::Integers(vec![1999, 2000, 2001])),
    ]
}

#[test]
fn numbers_and_texts_are_read_whatever_the_compression() {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd] {
        let folder = Folder::new().with("own.parquet", compressed(&columns(), compression));
        let loaded = folder.load("own.parquet").expect("it loads");
        assert_eq!(golds(&loaded), ["1", "2.5", "-3"]);
        assert_eq!(loaded.problems[2].tags["year"], "2001");
    }
}

#[test]
fn what_is_no_text_is_named_by_its_row() {
    let error = |columns: &[(&str, Cells<'_>)]| {
        Folder::new().with("own.parquet", parquet(columns)).error("own.parquet")
    };
    let question = || ("question", Cells::Texts(vec!["a?", "b?"]));
    assert_eq!(
        error(&[question(), ("answer", Cells::Texts(vec!["1", " "]))]),
        "`own.parquet`, row 2, field `answer`: is empty"
    );
    assert_eq!(
        error(&[question(), ("answer", Cells::Floats(vec![1.0, f64::NAN]))]),
        "`own.parquet`, row 2, field `answer`: is empty"
    );
    assert_eq!(
        error(&[question(), ("answer", Cells::Bytes(vec![b"1", b"\xff\xfe"]))]),
        "`own.parquet`, row 2, field `answer`: is not UTF-8"
    );
    assert!(error(&[question()]).contains("which column is the answer; it has `question`"));
}

/// Whatever byte is broken, the answer is problems or an error. (The panics that it prints are contained ones.)
#[test]
fn a_damaged_file_is_refused() {
    let whole = parquet(&columns());
    for damaged in [&b""[..], b"PAR1", b"not Parquet at all", &whole[..whole.len() / 2]] {
        let error = Folder::new().with("own.parquet", damaged).error("own.parquet");
        assert!(error.starts_with("`own.parquet` is no Parquet file: "), "{error}");
    }
    let folder = Folder::new();
    let file = folder.file("own.parquet");
    for place in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (place % 8);
        std::fs::write(&file, damaged).expect("it is writable");
        let _ = folder.load("own.parquet");
    }
}
