package cassandra

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// Files that are rendered into the node's conf folder.
const (
	yamlFile     = "cassandra.yaml"
	rackFile     = "cassandra-rackdc.properties"
	logFile      = "logback.xml"
	pairFile     = "node.pem" // key and chain in one, as Cassandra wants them
	rootsFile    = "ca.pem"
	passwordFile = "jmx.password"
)

// settings is cassandra.yaml. A commit is on disk before it is acknowledged (batch): a promise that a crash took back
// would break compare-and-swap. Peers must show a certificate of the deployment; its name is not compared (Cassandra's TLS
// cannot, on the accepting side). On a disk that fails or is full the process ends, and is started again when it can.
//
//nolint:gochecknoglobals // a parsed constant
var settings = template.Must(template.New(yamlFile).Funcs(template.FuncMap{"q": strconv.Quote}).Parse(`# Rendered at every start; changes are lost.
cluster_name: {{q .Cluster}}
num_tokens: {{.Tokens}}
allocate_tokens_for_local_replication_factor: 3
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: GossipingPropertyFileSnitch
listen_address: {{q .Address}}
rpc_address: {{q .Address}}
storage_port: {{.StoragePort}}
native_transport_port: {{.CQLPort}}
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: {{q .SeedList}}
data_file_directories: [{{q (.Path "data")}}]
commitlog_directory: {{q (.Path "commitlog")}}
saved_caches_directory: {{q (.Path "saved_caches")}}
hints_directory: {{q (.Path "hints")}}
cdc_raw_directory: {{q (.Path "cdc_raw")}}
commitlog_sync: batch
commitlog_segment_size: 8MiB
commitlog_total_space: 256MiB
disk_failure_policy: die
commit_failure_policy: die
paxos_variant: v2
read_request_timeout: 2000ms
range_request_timeout: 4000ms
write_request_timeout: 2000ms
cas_contention_timeout: 1500ms
request_timeout: 4000ms
concurrent_reads: 16
concurrent_writes: 16
concurrent_counter_writes: 2
native_transport_max_threads: 64
file_cache_size: 32MiB
key_cache_size: 16MiB
counter_cache_size: 0MiB
compaction_throughput: 32MiB/s
auto_snapshot: true
snapshot_before_compaction: false
authenticator: AllowAllAuthenticator
authorizer: AllowAllAuthorizer
server_encryption_options:
  internode_encryption: all
  require_client_auth: true
  require_endpoint_verification: false
{{.TLS}}
client_encryption_options:
  enabled: true
  optional: false
  require_client_auth: true
{{.TLS}}
`))

const logging = `<configuration>
  <appender name="FILE" class="ch.qos.logback.core.rolling.RollingFileAppender">
    <file>%s</file>
    <rollingPolicy class="ch.qos.logback.core.rolling.FixedWindowRollingPolicy">
      <fileNamePattern>%[1]s.%%i</fileNamePattern><minIndex>1</minIndex><maxIndex>4</maxIndex>
    </rollingPolicy>
    <triggeringPolicy class="ch.qos.logback.core.rolling.SizeBasedTriggeringPolicy"><maxFileSize>10MB</maxFileSize></triggeringPolicy>
    <encoder><pattern>%%date{ISO8601} %%-5level [%%thread] %%logger{1}: %%msg%%n</pattern></encoder>
  </appender>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <filter class="ch.qos.logback.classic.filter.ThresholdFilter"><level>ERROR</level></filter>
    <encoder><pattern>%%-5level %%logger{0}: %%msg%%n%%ex{3}</pattern></encoder>
  </appender>
  <logger name="org.apache.cassandra.security.PEMReader" level="WARN"/>
  <root level="INFO"><appender-ref ref="FILE"/><appender-ref ref="OUT"/></root>
</configuration>
`

// render writes the node's configuration.
func (n Node) render(password string) error {
	for _, dir := range []string{"conf", "logs", "tmp", "heap"} {
		if err := os.MkdirAll(n.path(dir), 0o700); err != nil {
			return fmt.Errorf("preparing Cassandra's folders: %w", err)
		}
	}
	if err := n.renderPair(); err != nil {
		return err
	}
	var yaml bytes.Buffer
	if err := settings.Execute(&yaml, view{n}); err != nil {
		return fmt.Errorf("rendering %s: %w", yamlFile, err)
	}
	rack := n.Rack
	if rack == "" {
		rack = "rack1"
	}
	for name, content := range map[string]string{
		yamlFile: yaml.String(), logFile: fmt.Sprintf(logging, n.path("logs", "system.log")),
		rackFile:     fmt.Sprintf("dc=%s\nrack=%s\n", n.Datacenter, rack),
		passwordFile: "store " + password + "\n",
	} {
		if err := writeFile(n.path("conf", name), []byte(content)); err != nil {
			return fmt.Errorf("rendering %s: %w", name, err)
		}
	}
	return nil
}

// renderPair writes the certificates as Cassandra wants them; it reads changed ones by itself within ten minutes.
func (n Node) renderPair() error {
	key, err := os.ReadFile(n.KeyFile)
	if err != nil {
		return fmt.Errorf("reading the node's key for Cassandra: %w", err)
	}
	chain, err := os.ReadFile(n.CertFile)
	if err != nil {
		return fmt.Errorf("reading the node's certificate for Cassandra: %w", err)
	}
	roots, err := os.ReadFile(n.CAFile)
	if err != nil {
		return fmt.Errorf("reading the deployment CA for Cassandra: %w", err)
	}
	for name, content := range map[string][]byte{pairFile: append(key, chain...), rootsFile: roots} {
		path := n.path("conf", name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
			continue // the time of the file says whether it changed
		}
		if err := writeFile(path, content); err != nil {
			return fmt.Errorf("writing Cassandra's certificates: %w", err)
		}
	}
	return nil
}

// view is what the template reads.
type view struct{ Node }

func (v view) Tokens() int                 { return tokens }
func (v view) StoragePort() int            { return PortStorage }
func (v view) CQLPort() int                { return PortCQL }
func (v view) SeedList() string            { return strings.Join(v.Seeds, ",") }
func (v view) Path(parts ...string) string { return v.path(parts...) }

func (v view) TLS() string {
	return fmt.Sprintf(`  accepted_protocols: [TLSv1.3]
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
  keystore: %s
  truststore: %s`, strconv.Quote(v.path("conf", pairFile)), strconv.Quote(v.path("conf", rootsFile)))
}

func (n Node) java() (string, error) {
	name := n.Java
	if name == "" {
		name = "java"
		if home := os.Getenv("JAVA_HOME"); home != "" {
			name = filepath.Join(home, "bin", "java")
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("cassandra: looking for Java 17 (Debian package openjdk-17-jre-headless): %w", err)
	}
	return path, nil
}

// openings are what Cassandra 5.0 needs of the modules of Java 17, as its own start script gives it.
const openings = `
--add-exports java.base/jdk.internal.misc=ALL-UNNAMED
--add-exports java.management.rmi/com.sun.jmx.remote.internal.rmi=ALL-UNNAMED
--add-exports java.rmi/sun.rmi.registry=ALL-UNNAMED
--add-exports java.rmi/sun.rmi.server=ALL-UNNAMED
--add-exports java.sql/java.sql=ALL-UNNAMED
--add-exports java.base/java.lang.ref=ALL-UNNAMED
--add-exports jdk.unsupported/sun.misc=ALL-UNNAMED
--add-exports java.management/com.sun.jmx.remote.security=ALL-UNNAMED
--add-opens java.management/com.sun.jmx.remote.security=ALL-UNNAMED
--add-opens java.base/java.lang.module=ALL-UNNAMED
--add-opens java.base/jdk.internal.loader=ALL-UNNAMED
--add-opens java.base/jdk.internal.ref=ALL-UNNAMED
--add-opens java.base/jdk.internal.reflect=ALL-UNNAMED
--add-opens java.base/jdk.internal.math=ALL-UNNAMED
--add-opens java.base/jdk.internal.module=ALL-UNNAMED
--add-opens java.base/jdk.internal.util.jar=ALL-UNNAMED
--add-opens jdk.management/com.sun.management.internal=ALL-UNNAMED
--add-opens java.base/sun.nio.ch=ALL-UNNAMED
--add-opens java.base/java.io=ALL-UNNAMED
--add-opens java.base/java.lang=ALL-UNNAMED
--add-opens java.base/java.lang.reflect=ALL-UNNAMED
--add-opens java.base/java.util=ALL-UNNAMED`

// arguments are those of the Java machine. jmxPort is on 127.0.0.1, for nodetool.
func (n Node) arguments(jmxPort int) ([]string, error) {
	jars, err := n.jars()
	if err != nil {
		return nil, err
	}
	heap := strconv.Itoa(n.heap()) + "m"
	args := append(strings.Fields(openings),
		"-Xms"+heap, "-Xmx"+heap, "-XX:MaxDirectMemorySize="+heap, "-Xss512k",
		"-XX:+ExitOnOutOfMemoryError", "-XX:+PerfDisableSharedMem",
		"-Djdk.attach.allowAttachSelf=true", "-Dio.netty.tryReflectionSetAccessible=true",
		"-Dio.netty.allocator.useCacheForAllThreads=true", "-Dio.netty.allocator.maxOrder=11",
		"-Djava.net.preferIPv4Stack="+strconv.FormatBool(!strings.Contains(n.Address, ":")),
		"-Djava.io.tmpdir="+n.path("tmp"), "-XX:ErrorFile="+n.path("logs", "java_error.log"),
		"-Dcassandra-foreground=yes", "-Dcassandra.storagedir="+n.Directory,
		"-Dcassandra.config=file://"+n.path("conf", yamlFile), "-Dlogback.configurationFile="+n.path("conf", logFile),
		"-Dcassandra.jmx.local.port="+strconv.Itoa(jmxPort),
		"-Dcom.sun.management.jmxremote.authenticate=true",
		"-Dcom.sun.management.jmxremote.password.file="+n.path("conf", passwordFile),
		"-Dcassandra.ring_delay_ms="+strconv.FormatInt(n.ringDelay().Milliseconds(), 10),
		"-Dcassandra.superuser_setup_delay_ms=0",
	)
	if n.heap() < 1024 { // the collector and compiler that a small machine can afford
		args = append(args, "-XX:+UseSerialGC")
	}
	if n.ringDelay() < 5*time.Second {
		args = append(args, "-Dcassandra.skip_wait_for_gossip_to_settle=0")
	}
	if n.Replace != "" { // without effect once this node is in the ring
		args = append(args, "-Dcassandra.replace_address_first_boot="+n.Replace)
	}
	for _, jar := range jars {
		if strings.HasPrefix(filepath.Base(jar), "jamm-") {
			args = append(args, "-javaagent:"+jar)
		}
	}
	args = append(args, n.JVM...)
	return append(args, "-cp", n.path("conf")+":"+filepath.Join(n.Home, "lib", "*"), "org.apache.cassandra.service.CassandraDaemon"), nil
}

// writeFile replaces a file, for its owner only, whole or not at all.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
