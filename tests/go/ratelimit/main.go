// The reference server of Envoy's rate limit service. Its settings are environment variables.
package main

import (
	"github.com/envoyproxy/ratelimit/src/service_cmd/runner"
	"github.com/envoyproxy/ratelimit/src/settings"
)

func main() {
	server := runner.NewRunner(settings.NewSettings())
	server.Run()
}
