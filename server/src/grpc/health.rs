//! grpc.health.v1: not serving until the broker says so.

use leveret_proto::v1::admin_server::AdminServer;
use leveret_proto::v1::broker_server::BrokerServer;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::admin::Admin;
use super::service::Service;

/// Says whether the broker serves. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Not serving yet.
    pub async fn new() -> Self {
        let health = Self { reporter: HealthReporter::new() };
        health.not_serving().await;
        health
    }

    /// Recovery is done.
    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// The process is stopping.
    pub async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        // "" is the server as a whole.
        for service in ["", BrokerServer::<Service>::NAME, AdminServer::<Admin>::NAME] {
            self.reporter.set_service_status(service, status).await;
        }
    }

    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }
}
