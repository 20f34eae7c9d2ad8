package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
)

// certificate is the port's certificate, which can be read again while it
// serves.
type certificate struct {
	cert, key string // files
	current   atomic.Pointer[tls.Certificate]
}

// load reads the files; on an error the one before stays.
func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	c.current.Store(&pair)
	return nil
}

// config serves the current certificate.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// readLevel reads the log level as it is configured now.
func (e *environment) readLevel() (level slog.Level, err error) {
	var c commands
	parser, err := newParser(&c, io.Discard, io.Discard, func(int) { panic(exited{}) })
	if err != nil {
		return level, err
	}
	if _, err := parse(parser, e.args); err != nil {
		return level, err
	}
	return level, level.UnmarshalText([]byte(c.Log))
}
