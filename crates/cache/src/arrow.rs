//! Everything of Arrow that this crate uses, from one place, so that another line of it is one change.

pub use arrow_array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StringViewArray, UInt32Array, UInt64Array, cast::AsArray, types,
};
pub use arrow_cast::cast;
pub use arrow_ipc::writer::{CompressionContext, DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
pub use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef};
pub use arrow_select::concat::concat_batches;
pub use arrow_select::interleave::interleave_record_batch;
