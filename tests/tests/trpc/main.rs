//! tRPC of trpc-go and of trpc-java.

mod go;
mod java;
