# Makes of envoy-configs/dubbo.yaml what fits in containers: servers by name, listeners for everybody.
/- name: \(v1\|v2\|demo\)$/{
  n
  s/type: STATIC/type: STRICT_DNS/
}
/port_value: 20881/s/127\.0\.0\.1/v1/
/port_value: 20882/s/127\.0\.0\.1/v2/
s/127\.0\.0\.1/0.0.0.0/
