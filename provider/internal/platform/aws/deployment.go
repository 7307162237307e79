package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// vpcResolver is the name server that every VPC has.
const vpcResolver = "169.254.169.253:53"

// recorded is what the parameter store keeps of a deployment.
type recorded struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	HomeDomain string    `json:"home_domain"`
	CreatedAt  time.Time `json:"created_at"`
}

// id is the uuid of a deployment that is named by name or uuid.
func (a *AWS) id(ctx context.Context, deployment string) (string, error) {
	if !parameterName.MatchString(deployment) {
		return "", fmt.Errorf("deployment %q: %w", deployment, platform.ErrNotFound)
	}
	_, err := a.get(ctx, worldParameter(deployment, "deployment"))
	if err == nil {
		return deployment, nil
	}
	if !errors.Is(err, platform.ErrNotFound) {
		return "", err
	}
	id, err := a.get(ctx, nameParameter(deployment))
	if errors.Is(err, platform.ErrNotFound) {
		return "", fmt.Errorf("deployment %s in %s: %w", deployment, a.cfg.HomeRegion, platform.ErrNotFound)
	}
	return id, err
}

// ApplyDeployment implements platform.Deployments. The name is claimed first: of two applies at once one adopts what the
// other makes.
func (a *AWS) ApplyDeployment(ctx context.Context, want platform.Deployment) (platform.Deployment, error) {
	if !parameterName.MatchString(want.Name) {
		return platform.Deployment{}, fmt.Errorf("deployment name %q: allowed are letters, digits, - _ and .", want.Name)
	}
	id, err := a.claim(ctx, want.Name, want.ID)
	if err != nil {
		return platform.Deployment{}, err
	}
	have, err := a.recorded(ctx, id)
	switch {
	case errors.Is(err, platform.ErrNotFound):
		have = recorded{ID: id, Name: want.Name, HomeDomain: want.HomeDomain, CreatedAt: time.Now().UTC().Truncate(time.Second)}
	case err != nil:
		return platform.Deployment{}, err
	case have.HomeDomain != want.HomeDomain:
		return platform.Deployment{}, fmt.Errorf("deployment %s exists in %s with home domain %s, not %s: %w", want.Name, a.cfg.HomeRegion, have.HomeDomain, want.HomeDomain, platform.ErrConflict)
	}
	if !a.cfg.PrivateZone {
		if _, err := a.publicZone(ctx, want.HomeDomain); err != nil {
			return platform.Deployment{}, err
		}
	}
	if want.CACertificate != "" { // the first apply has none yet; a parameter cannot be empty
		if err := a.put(ctx, worldParameter(id, "ca"), want.CACertificate); err != nil {
			return platform.Deployment{}, err
		}
	}
	if err := a.putJSON(ctx, worldParameter(id, "deployment"), have); err != nil {
		return platform.Deployment{}, err
	}
	return a.described(have, want.CACertificate), nil
}

// claim takes a name for an id, or returns the id that has it.
func (a *AWS) claim(ctx context.Context, name, id string) (string, error) {
	at, overwrite := nameParameter(name), false
	_, err := a.ssm.PutParameter(ctx, &ssm.PutParameterInput{Name: &at, Value: &id, Type: types.ParameterTypeString, Overwrite: &overwrite})
	if err == nil {
		return id, nil
	}
	if !coded(err, "ParameterAlreadyExists") {
		return "", explain("claiming the name "+name, err)
	}
	return a.get(ctx, at)
}

func (a *AWS) recorded(ctx context.Context, id string) (recorded, error) {
	text, err := a.get(ctx, worldParameter(id, "deployment"))
	if err != nil {
		return recorded{}, err
	}
	return decode[recorded](text)
}

func (a *AWS) described(r recorded, ca string) platform.Deployment {
	return platform.Deployment{ID: r.ID, Name: r.Name, HomeDomain: r.HomeDomain, CACertificate: ca, CreatedAt: r.CreatedAt, Running: true, DNSServer: a.cfg.Resolver,
		Ports: platform.Ports{DNS: 53, PortalHTTP: 80, PortalHTTPS: 443}}
}

func decode[T any](text string) (T, error) {
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return v, fmt.Errorf("parameter: %w", err)
	}
	return v, nil
}

// DestroyDeployment implements platform.Deployments: machines first, then what they stood on, and the deployment's own
// parameters last, so that an interrupted destroy is found again by the next.
func (a *AWS) DestroyDeployment(ctx context.Context, deployment string) error {
	id, err := a.id(ctx, deployment)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	w, err := a.Reflect(ctx, id)
	if err != nil {
		return err
	}
	if err := a.deleteMachines(ctx, id, nil); err != nil {
		return err
	}
	for _, set := range w.Records {
		if err := a.Publish(ctx, id, platform.RecordSet{Owner: set.Owner}); err != nil {
			return err
		}
	}
	if err := a.deleteZone(ctx, id); err != nil {
		return err
	}
	for _, n := range w.Networks {
		if err := a.DeleteNetwork(ctx, id, n.Name); err != nil {
			return err
		}
	}
	return a.forget(ctx, w.Deployment)
}

// forget deletes the deployment's parameters; those that make it findable go last.
func (a *AWS) forget(ctx context.Context, d platform.Deployment) error {
	all, err := a.below(ctx, root+"/"+d.ID)
	if err != nil {
		return err
	}
	own := worldParameter(d.ID, "deployment")
	var names []string
	for name := range all {
		if name != own {
			names = append(names, name)
		}
	}
	if err := a.remove(ctx, names...); err != nil {
		return err
	}
	if err := a.remove(ctx, own); err != nil {
		return err
	}
	return a.remove(ctx, nameParameter(d.Name))
}
