//! Receivers of access logs, by Envoy's own service and by OpenTelemetry's.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value;
use tonic::codegen::BoxFuture;
use tonic::server::ClientStreamingService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::collector::{serve, values};
use crate::streamed::{Answer, Receiving};

/// What a running receiver got. It runs as long as the process.
#[derive(Debug, Clone, Default)]
pub struct LogReceiver(Arc<Mutex<Got>>);

#[derive(Debug, Default)]
struct Got {
    entries: Vec<Entry>,
    records: Vec<Record>,
}

/// A call by Envoy's access log service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name of the log.
    pub log: String,
    /// What the call was to.
    pub authority: String,
    /// What it called.
    pub path: String,
    /// The code of the answer.
    pub code: u32,
    /// The headers that are logged.
    pub headers: HashMap<String, String>,
}

/// A call by OpenTelemetry's logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The body.
    pub body: String,
    /// The attributes.
    pub attributes: BTreeMap<String, String>,
}

impl LogReceiver {
    /// Starts one that listens on an address, and gives that as well; on a free port if the address has none.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn start(address: SocketAddr) -> (Self, SocketAddr) {
        let receiver = Self::default();
        let logs = LogsServiceServer::new(receiver.clone());
        let entries: Receiving<_, wire::Message> = Receiving::new(receiver.clone());
        let address = serve(address, async |listener| {
            let server = Server::builder().add_service(logs).add_service(entries);
            server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        (receiver, address)
    }

    /// What it got by Envoy's service.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().entries.clone()
    }

    /// What it got by OpenTelemetry's.
    pub fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap().records.clone()
    }
}

#[tonic::async_trait]
impl LogsService for LogReceiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let resources = request.into_inner().resource_logs.into_iter();
        let records = resources.flat_map(|of| of.scope_logs).flat_map(|of| of.log_records).map(|record| {
            let body = match record.body.as_ref().and_then(|body| body.value.as_ref()) {
                Some(any_value::Value::StringValue(text)) => text.clone(),
                other => panic!("{other:?}"),
            };
            let attributes =
                values(&record.attributes).into_iter().map(|(key, value)| (key.to_owned(), value));
            Record { body, attributes: attributes.collect() }
        });
        self.0.lock().unwrap().records.extend(records);
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

impl ClientStreamingService<wire::Message> for LogReceiver {
    type Response = Answer;
    type Future = BoxFuture<Response<Answer>, Status>;

    fn call(&mut self, request: Request<Streaming<wire::Message>>) -> Self::Future {
        let own = self.clone();
        Box::pin(async move {
            let (mut messages, mut log) = (request.into_inner(), String::new());
            while let Some(message) = messages.message().await? {
                // The first message of a stream names the log.
                if let Some(identifier) = message.identifier {
                    log = identifier.log_name;
                }
                let entries = message.http_logs.unwrap_or_default().log_entry.into_iter().map(|entry| {
                    let (request, response) =
                        (entry.request.unwrap_or_default(), entry.response.unwrap_or_default());
                    Entry {
                        log: log.clone(),
                        authority: request.authority,
                        path: request.path,
                        code: response.response_code.unwrap_or_default(),
                        headers: request.request_headers,
                    }
                });
                own.0.lock().unwrap().entries.extend(entries);
            }
            Ok(Response::new(Answer {}))
        })
    }
}

/// The parts of the messages that are read.
mod wire {
    use std::collections::HashMap;

    use crate::streamed::Streamed;

    impl Streamed for Message {
        const SERVICE: &'static str = "envoy.service.accesslog.v3.AccessLogService";
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Message {
        #[prost(message, optional, tag = "1")]
        pub(super) identifier: Option<Identifier>,
        #[prost(message, optional, tag = "2")]
        pub(super) http_logs: Option<HttpLogs>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Identifier {
        #[prost(string, tag = "2")]
        pub(super) log_name: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct HttpLogs {
        #[prost(message, repeated, tag = "1")]
        pub(super) log_entry: Vec<HttpLog>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct HttpLog {
        #[prost(message, optional, tag = "3")]
        pub(super) request: Option<RequestProperties>,
        #[prost(message, optional, tag = "4")]
        pub(super) response: Option<ResponseProperties>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RequestProperties {
        #[prost(string, tag = "3")]
        pub(super) authority: String,
        #[prost(string, tag = "5")]
        pub(super) path: String,
        #[prost(map = "string, string", tag = "13")]
        pub(super) request_headers: HashMap<String, String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ResponseProperties {
        /// `google.protobuf.UInt32Value`.
        #[prost(message, optional, tag = "1")]
        pub(super) response_code: Option<u32>,
    }
}
