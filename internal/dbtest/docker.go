package dbtest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
)

const (
	defaultImage = "postgres:17"

	// pingTimeout is how long a daemon may take to answer; one that runs does so in milliseconds.
	pingTimeout = 5 * time.Second

	// pullTimeout bounds the download of the image, which is about 160 MB.
	pullTimeout = 5 * time.Minute

	// containerTimeout bounds the first start in a container, initdb included.
	containerTimeout = 2 * time.Minute

	// containerLifetime ends a container whose test run was killed, in seconds: longer than any run takes.
	containerLifetime = 3600

	// containerShm is the container's /dev/shm in bytes: Docker's 64 MB are too few for parallel queries.
	containerShm = 256 << 20

	postgresPort = "5432/tcp"
)

// openDocker runs image, or the default one where it is empty, in a container of its own. Without a daemon, or without
// the image while it was not asked for by name, it returns an unavailableError.
func openDocker(ctx context.Context, image string) (*Server, error) {
	pool, err := connectDocker(ctx)
	if err != nil {
		return nil, &unavailableError{"no Docker daemon answers", err}
	}
	repository, tag := docker.ParseRepositoryTag(cmp.Or(image, defaultImage))
	tag = cmp.Or(tag, "latest")
	if err := ensureImage(ctx, pool, repository, tag); err != nil {
		if image != "" {
			return nil, fmt.Errorf("get Docker image %s: %w", image, err)
		}
		return nil, &unavailableError{fmt.Sprintf("Docker has no image %s and cannot pull it", defaultImage), err}
	}

	password := rand.Text()
	container, err := runContainer(pool, repository, tag, password)
	if err != nil {
		return nil, fmt.Errorf("run Docker image %s:%s: %w", repository, tag, err)
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", password),
		Host:     container.GetHostPort(postgresPort),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	server := &Server{
		URL:    u.String(),
		Source: fmt.Sprintf("in Docker, image %s:%s", repository, tag),
		stop:   func() error { return remove(container) },
	}
	if err := awaitConnections(ctx, pool, container, server.URL); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", server.Source, err), server.Stop())
	}
	return server, nil
}

func connectDocker(ctx context.Context) (*dockertest.Pool, error) {
	pool, err := dockertest.NewPool("")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return pool, pool.Client.PingWithContext(ctx)
}

// ensureImage pulls the image where it is missing. dockertest would do so as well, but for as long as it takes.
func ensureImage(ctx context.Context, pool *dockertest.Pool, repository, tag string) error {
	_, err := pool.Client.InspectImage(repository + ":" + tag)
	if !errors.Is(err, docker.ErrNoSuchImage) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	return pool.Client.PullImage(docker.PullImageOptions{Repository: repository, Tag: tag, Context: ctx}, docker.AuthConfiguration{})
}

func runContainer(pool *dockertest.Pool, repository, tag, password string) (*dockertest.Resource, error) {
	command := []string{"postgres"}
	for _, name := range slices.Sorted(maps.Keys(serverSettings)) {
		command = append(command, "-c", name+"="+serverSettings[name])
	}
	container, err := pool.RunWithOptions(&dockertest.RunOptions{
		Repository:   repository,
		Tag:          tag,
		Env:          []string{"POSTGRES_PASSWORD=" + password},
		Cmd:          command,
		ExposedPorts: []string{postgresPort},
	}, func(host *docker.HostConfig) {
		host.AutoRemove = true
		host.ShmSize = containerShm
	})
	if err != nil {
		return nil, err
	}
	if err := container.Expire(containerLifetime); err != nil {
		return nil, errors.Join(err, container.Close())
	}
	return container, nil
}

// awaitConnections connects until that succeeds: the port is published before the server listens on it.
func awaitConnections(ctx context.Context, pool *dockertest.Pool, container *dockertest.Resource, url string) error {
	const pollInterval = 50 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, containerTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		conn, err := pgconn.Connect(ctx, url)
		if err == nil {
			return conn.Close(ctx)
		}
		// A container of ours is removed as soon as it exits; the inspection then fails.
		if _, err := pool.Client.InspectContainer(container.Container.ID); err != nil {
			return fmt.Errorf("its container ended before it accepted connections (docker run it to see why): %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for connections: %w: %w", ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// remove ends a container. One that is gone already is no error.
func remove(container *dockertest.Resource) error {
	err := container.Close()
	var gone *docker.NoSuchContainer
	if errors.As(err, &gone) {
		return nil
	}
	return err
}
