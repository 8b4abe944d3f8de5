//! Handshakes, actions, and what a client is told beside where its rows are.

use arrow_flight::{Action, FlightDescriptor, HandshakeRequest};
use futures::TryStreamExt as _;
use serde_json::Value;
use tonic::{Code, Request, Status};

use crate::group::{Group, client, ids, write};

async fn act(uri: &str, name: &str) -> Result<Vec<Value>, Status> {
    let action = Action { r#type: name.to_owned(), ..Action::default() };
    let answers = client(uri).do_action(action).await?.into_inner().try_collect::<Vec<_>>().await?;
    Ok(answers.iter().map(|answer| serde_json::from_slice(&answer.body).unwrap()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_names_every_unit_and_its_worker() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..1200, 1);
    write(&folder.path().join("b.parquet"), 1200..1300, 100);
    let group = Group::start(folder.path(), &[("UNIT", "rowgroup")], 2).await;
    let plan = act(&group.head(), "plan").await.unwrap();
    let (about, units) = plan.split_first().unwrap();
    assert_eq!((&about["rows"], &about["units"]), (&1300.into(), &1201.into()));
    assert_eq!(about["columns"][0]["name"], "id");
    assert_eq!(about["planId"], act(&group.head(), "status").await.unwrap()[0]["planId"]);
    assert_eq!(units.iter().map(|some| some.as_array().unwrap().len()).collect::<Vec<_>>(), [1000, 201]);
    let mut next = 0;
    for unit in units.iter().flat_map(|some| some.as_array().unwrap()) {
        assert_eq!(unit["firstIndex"], next);
        assert!(unit["path"].as_str().unwrap().ends_with(if next < 1200 {
            "/a.parquet"
        } else {
            "/b.parquet"
        }));
        next += unit["rows"].as_u64().unwrap();
        let ranges = &about["workers"][usize::try_from(unit["worker"].as_u64().unwrap()).unwrap()]["range"];
        assert!(ranges[0].as_u64() <= unit["firstIndex"].as_u64() && ranges[1].as_u64() >= Some(next - 1));
    }
    assert_eq!(next, 1300);
    let unknown = act(&group.head(), "drop").await.unwrap_err();
    assert_eq!(unknown.message(), "unknown action \"drop\"; known are status, plan");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_forgotten_and_loaded_again_when_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let disk = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..50_000, 10_000);
    let disk = disk.path().to_str().unwrap().to_owned();
    let variables =
        [("CACHE_DISK_DIR", disk.as_str()), ("CACHE_DISK_BYTES", "256Mi"), ("READY_WHEN", "loaded")];
    let group = Group::start(folder.path(), &variables, 1).await;
    let worker = group.worker(0);
    let status = async |name: &str| act(&worker, name).await.unwrap().swap_remove(0);
    let before = status("status").await;
    assert!(before["cachedBytes"].as_u64() > Some(0) && before["loaded"] == before["units"], "{before}");
    // What is being written to the disk is there a moment later.
    while status("status").await["diskBytes"].as_u64() < before["cachedBytes"].as_u64() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let dropped = status("drop").await;
    assert_eq!(
        (&dropped["cachedBytes"], &dropped["diskBytes"], &dropped["loaded"]),
        (&0.into(), &0.into(), &0.into())
    );
    // Streams are served meanwhile.
    assert_eq!(ids(&group.read(0, 1, &[]).await.unwrap()).len(), 50_000);
    assert_eq!(group.head_ready(), Ok(()));
    status("drop").await;
    status("warm").await;
    let loaded = async {
        while status("status").await["loaded"] != before["units"] {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), loaded).await.unwrap();
    assert_eq!(status("status").await["cachedBytes"], before["cachedBytes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_answers_the_token_of_whoever_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..10, 10);
    let token = folder.path().join("token");
    std::fs::write(&token, "sesame").unwrap();
    let group = Group::start(folder.path(), &[("AUTH_TOKEN_FILE", token.to_str().unwrap())], 1).await;
    for uri in [group.head(), group.worker(0)] {
        let shake = async |token: Option<&str>| {
            let hello = HandshakeRequest { protocol_version: 0, payload: "hello".into() };
            let mut request = Request::new(futures::stream::iter([hello]));
            if let Some(token) = token {
                request.metadata_mut().insert("authorization", token.parse().unwrap());
            }
            let answer = client(&uri).handshake(request).await?;
            let header = answer.metadata().get("authorization").cloned();
            let payload = answer.into_inner().try_next().await?.unwrap().payload;
            Ok::<_, Status>((header.map(|header| header.to_str().unwrap().to_owned()), payload))
        };
        let (header, payload) = shake(Some("Bearer sesame")).await.unwrap();
        assert_eq!((header.as_deref(), &payload[..]), (Some("Bearer sesame"), &b"sesame"[..]));
        for wrong in [None, Some("Bearer other")] {
            assert_eq!(shake(wrong).await.unwrap_err().code(), Code::Unauthenticated);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_workers_are_named_to_those_who_ask_and_serve_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.parquet"), 0..300, 100);
    let group = Group::start(folder.path(), &[], 3).await;
    let info = async |options: &[&str]| {
        let path = ["0", "1"].iter().chain(options).map(|&element| element.to_owned()).collect();
        client(&group.head()).get_flight_info(FlightDescriptor::new_path(path)).await.unwrap().into_inner()
    };
    let plain = info(&[]).await;
    assert!(plain.endpoint.iter().all(|endpoint| endpoint.location.len() == 1));
    let told = info(&["alt=1", "columns=id"]).await;
    let schema = told.clone().try_decode_schema().unwrap();
    assert_eq!(schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["id"]);
    assert_eq!(told.endpoint.len(), 3);
    let mut first = Vec::new();
    for (endpoint, plain) in told.endpoint.iter().zip(&plain.endpoint) {
        assert_eq!(endpoint.location[0], plain.location[0]);
        let mut read = Vec::new();
        for location in &endpoint.location {
            let uri = location.uri.replace("grpc://", "http://");
            let messages = client(&uri).do_get(endpoint.ticket.clone().unwrap()).await.unwrap().into_inner();
            let messages: Vec<_> = messages.try_collect().await.unwrap();
            read.push(messages.into_iter().map(|message| message.data_body).collect::<Vec<_>>());
        }
        assert!(read.len() == 3 && read.iter().all(|rows| *rows == read[0]));
        first.push(endpoint.location[0].uri.clone());
    }
    first.dedup();
    assert_eq!(first.len(), 3);
}
