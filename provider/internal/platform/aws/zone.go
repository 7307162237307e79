package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// Publish implements platform.Zones. What shall stand is kept before the zone is changed, with what shall not stand any
// more, so that an interrupted change is finished by the next.
func (a *AWS) Publish(ctx context.Context, deployment string, set platform.RecordSet) error {
	id, err := a.id(ctx, deployment)
	if err != nil {
		return err
	}
	if !parameterName.MatchString(set.Owner) {
		return fmt.Errorf("owner of records %q: allowed are letters, digits, - _ and .", set.Owner)
	}
	a.zones.Lock()
	defer a.zones.Unlock()
	d, err := a.recorded(ctx, id)
	if err != nil {
		return err
	}
	kept, err := a.keptSets(ctx, id)
	if err != nil {
		return err
	}
	before := kept[set.Owner]
	now := keptSet{Set: set, Obsolete: slices.Concat(before.Set.Records, before.Obsolete)}
	if len(now.Set.Records)+len(now.Obsolete) == 0 {
		return nil
	}
	if err := a.keep(ctx, id, now); err != nil {
		return err
	}
	kept[set.Owner] = now
	zone, err := a.zone(ctx, d)
	if err != nil {
		return err
	}
	if err := a.reconcile(ctx, d, zone, kept, now); err != nil {
		return fmt.Errorf("records of %s: %w", set.Owner, err)
	}
	now.Obsolete = nil
	return a.keep(ctx, id, now)
}

// key names one record set of a zone.
type key struct{ name, kind, identifier string }

// wanted groups the records of all owners as Route 53 holds them. Names that all sites share get one weighted set for each
// site from the first on, so that a further site changes no policy; all others are simple sets, the union of their owners.
func wanted(home string, kept map[string]keptSet) map[key]types.ResourceRecordSet {
	sites := map[string]bool{}
	for owner := range kept {
		sites[siteOf(owner)] = true
	}
	out := map[key]types.ResourceRecordSet{}
	for _, owner := range sortedKeys(kept) {
		for _, r := range kept[owner].Set.Records {
			at := keyOf(home, sites, owner, r)
			s, ok := out[at]
			if !ok {
				s = types.ResourceRecordSet{Name: awssdk.String(at.name), Type: types.RRType(at.kind), TTL: awssdk.Int64(int64(r.TTL))}
				if at.identifier != "" {
					s.SetIdentifier, s.Weight = awssdk.String(at.identifier), awssdk.Int64(1)
				}
			}
			if !slices.ContainsFunc(s.ResourceRecords, func(have types.ResourceRecord) bool { return awssdk.ToString(have.Value) == r.Value }) {
				s.ResourceRecords = append(s.ResourceRecords, types.ResourceRecord{Value: awssdk.String(r.Value)})
			}
			out[at] = s
		}
	}
	return out
}

func siteOf(owner string) string {
	site, _, _ := strings.Cut(owner, ".")
	return site
}

// keyOf tells which set a record belongs to: a name with a site's label before the home domain is that site's own.
func keyOf(home string, sites map[string]bool, owner string, r platform.Record) key {
	at := key{name: strings.ToLower(r.Name), kind: r.Type}
	label := strings.TrimSuffix(strings.TrimSuffix(at.name, home+"."), ".")
	if i := strings.LastIndexByte(label, '.'); i >= 0 {
		label = label[i+1:]
	}
	if !sites[label] {
		at.identifier = siteOf(owner)
	}
	return at
}

// reconcile changes the sets of a zone that one owner's records, old or new, belong to.
func (a *AWS) reconcile(ctx context.Context, d recorded, zone string, kept map[string]keptSet, changed keptSet) error {
	stands, err := a.listZone(ctx, zone)
	if err != nil {
		return err
	}
	want, sites := wanted(d.HomeDomain, kept), map[string]bool{}
	for owner := range kept {
		sites[siteOf(owner)] = true
	}
	touched := map[key]bool{}
	for _, r := range slices.Concat(changed.Set.Records, changed.Obsolete) {
		touched[keyOf(d.HomeDomain, sites, changed.Set.Owner, r)] = true
	}
	var changes []types.Change
	for _, at := range slices.SortedFunc(maps.Keys(touched), compareKeys) {
		have, stands := stands[at]
		set, wants := want[at]
		switch {
		case wants && (!stands || !sameSet(have, set)):
			changes = append(changes, types.Change{Action: types.ChangeActionUpsert, ResourceRecordSet: &set})
		case !wants && stands:
			changes = append(changes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: &have})
		}
	}
	return a.change(ctx, zone, changes)
}

func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.kind, b.kind), cmp.Compare(a.identifier, b.identifier))
}

func sameSet(a, b types.ResourceRecordSet) bool {
	values := func(s types.ResourceRecordSet) []string {
		var out []string
		for _, r := range s.ResourceRecords {
			out = append(out, awssdk.ToString(r.Value))
		}
		slices.Sort(out)
		return out
	}
	return awssdk.ToInt64(a.TTL) == awssdk.ToInt64(b.TTL) && awssdk.ToInt64(a.Weight) == awssdk.ToInt64(b.Weight) && slices.Equal(values(a), values(b))
}

// listZone reads every set of a zone.
func (a *AWS) listZone(ctx context.Context, zone string) (map[key]types.ResourceRecordSet, error) {
	out := map[key]types.ResourceRecordSet{}
	pages := route53.NewListResourceRecordSetsPaginator(a.route53, &route53.ListResourceRecordSetsInput{HostedZoneId: &zone})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, explain("listing the records of zone "+zone, err)
		}
		for _, s := range page.ResourceRecordSets {
			out[key{strings.ToLower(awssdk.ToString(s.Name)), string(s.Type), awssdk.ToString(s.SetIdentifier)}] = s
		}
	}
	return out, nil
}

// change applies changes in batches and waits until every name server of the zone has them. Amazon takes 1000 records
// and 32000 characters in a batch; an upsert counts twice.
func (a *AWS) change(ctx context.Context, zone string, changes []types.Change) error {
	const most, mostText = 400, 12000
	for len(changes) > 0 {
		n, records, text := 0, 0, 0
		for n < len(changes) && (n == 0 || (records < most && text < mostText)) {
			for _, r := range changes[n].ResourceRecordSet.ResourceRecords {
				records++
				text += len(awssdk.ToString(r.Value))
			}
			n++
		}
		if err := a.changeBatch(ctx, zone, changes[:n]); err != nil {
			return err
		}
		changes = changes[n:]
	}
	return nil
}

func (a *AWS) changeBatch(ctx context.Context, zone string, changes []types.Change) error {
	var id *string
	err := a.until(ctx, "zone "+zone+" takes changes", func() (bool, error) {
		out, err := a.route53.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{HostedZoneId: &zone, ChangeBatch: &types.ChangeBatch{Changes: changes}})
		if coded(err, "PriorRequestNotComplete") {
			return false, nil
		}
		if err != nil {
			return false, explain("changing records of zone "+zone, err)
		}
		id = out.ChangeInfo.Id
		return true, nil
	})
	if err != nil {
		return err
	}
	return a.until(ctx, "the name servers have the change", func() (bool, error) {
		out, err := a.route53.GetChange(ctx, &route53.GetChangeInput{Id: id})
		if err != nil {
			return false, explain("asking about a change of zone "+zone, err)
		}
		return out.ChangeInfo.Status == types.ChangeStatusInsync, nil
	})
}

// zone finds the hosted zone that holds the deployment's records.
func (a *AWS) zone(ctx context.Context, d recorded) (string, error) {
	if a.cfg.PrivateZone {
		zone, err := a.privateZone(ctx, d.ID)
		if err == nil && zone == "" {
			err = fmt.Errorf("the private zone %s is made with the deployment's first network: apply that first: %w", d.HomeDomain, platform.ErrNotFound)
		}
		return zone, err
	}
	return a.publicZone(ctx, d.HomeDomain)
}

// publicZone is the account's public hosted zone of the domain, or of its nearest parent.
func (a *AWS) publicZone(ctx context.Context, domain string) (string, error) {
	for parent := domain; strings.Contains(parent, "."); _, parent, _ = strings.Cut(parent, ".") {
		zones, err := a.zonesNamed(ctx, parent)
		if err != nil {
			return "", err
		}
		for _, z := range zones {
			if z.Config == nil || !z.Config.PrivateZone {
				return awssdk.ToString(z.Id), nil
			}
		}
	}
	return "", fmt.Errorf("the account has no public hosted zone for %s: make one in Route 53 and have its parent delegate to it, or set aws.private_zone = true: %w", domain, platform.ErrNotFound)
}

func (a *AWS) zonesNamed(ctx context.Context, domain string) ([]types.HostedZone, error) {
	name := domain + "."
	out, err := a.route53.ListHostedZonesByName(ctx, &route53.ListHostedZonesByNameInput{DNSName: &name})
	if err != nil {
		return nil, explain("looking for the hosted zone "+domain, err)
	}
	return slices.DeleteFunc(out.HostedZones, func(z types.HostedZone) bool { return awssdk.ToString(z.Name) != name }), nil
}

// privateZone is the id of the private zone that this deployment made, empty when there is none.
func (a *AWS) privateZone(ctx context.Context, id string) (string, error) {
	zone, err := a.get(ctx, worldParameter(id, "zone"))
	if errors.Is(err, platform.ErrNotFound) {
		return "", nil
	}
	return zone, err
}

// ensurePrivateZone makes the zone with the deployment's first network, and shows it to further ones.
func (a *AWS) ensurePrivateZone(ctx context.Context, d recorded, vpc string) error {
	zone, err := a.privateZone(ctx, d.ID)
	if err != nil {
		return err
	}
	at := &types.VPC{VPCId: &vpc, VPCRegion: types.VPCRegion(a.cfg.Region)}
	if zone == "" {
		return a.createPrivateZone(ctx, d, at)
	}
	have, err := a.route53.GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: &zone})
	if err != nil {
		return explain("looking at the zone "+d.HomeDomain, err)
	}
	if slices.ContainsFunc(have.VPCs, func(v types.VPC) bool { return awssdk.ToString(v.VPCId) == vpc }) {
		return nil
	}
	_, err = a.route53.AssociateVPCWithHostedZone(ctx, &route53.AssociateVPCWithHostedZoneInput{HostedZoneId: &zone, VPC: at})
	return explain("showing the zone "+d.HomeDomain+" to "+vpc, err)
}

func (a *AWS) createPrivateZone(ctx context.Context, d recorded, at *types.VPC) error {
	name, reference := d.HomeDomain+".", "clearwater-"+d.ID
	made, err := a.route53.CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: &name, CallerReference: &reference, VPC: at,
		HostedZoneConfig: &types.HostedZoneConfig{PrivateZone: true, Comment: awssdk.String("Clearwater deployment " + d.Name)}})
	var id string
	switch {
	case err == nil:
		id = awssdk.ToString(made.HostedZone.Id)
	case coded(err, "HostedZoneAlreadyExists"): // by an apply that was interrupted before it was kept
		if id, err = a.zoneOfReference(ctx, d.HomeDomain, reference); err != nil {
			return err
		}
	default:
		return explain("making the zone "+d.HomeDomain, err)
	}
	return a.put(ctx, worldParameter(d.ID, "zone"), id)
}

func (a *AWS) zoneOfReference(ctx context.Context, domain, reference string) (string, error) {
	zones, err := a.zonesNamed(ctx, domain)
	if err != nil {
		return "", err
	}
	for _, z := range zones {
		if awssdk.ToString(z.CallerReference) == reference {
			return awssdk.ToString(z.Id), nil
		}
	}
	return "", fmt.Errorf("hosted zone %s with reference %s: %w", domain, reference, platform.ErrNotFound)
}

// leavePrivateZone takes the zone from a network that goes. The last one cannot be taken: then the zone itself goes.
func (a *AWS) leavePrivateZone(ctx context.Context, id, vpc string) error {
	zone, err := a.privateZone(ctx, id)
	if err != nil || zone == "" {
		return err
	}
	_, err = a.route53.DisassociateVPCFromHostedZone(ctx, &route53.DisassociateVPCFromHostedZoneInput{HostedZoneId: &zone, VPC: &types.VPC{VPCId: &vpc, VPCRegion: types.VPCRegion(a.cfg.Region)}})
	switch {
	case coded(err, "LastVPCAssociation"):
		return a.deleteZone(ctx, id)
	case coded(err, "VPCAssociationNotFound") || missing(err):
		return nil
	}
	return explain("taking the zone from "+vpc, err)
}

// deleteZone deletes the deployment's private zone with all that stands in it. A public zone is its owner's.
func (a *AWS) deleteZone(ctx context.Context, id string) error {
	zone, err := a.privateZone(ctx, id)
	if err != nil || zone == "" {
		return err
	}
	stands, err := a.listZone(ctx, zone)
	if err != nil && !errors.Is(err, platform.ErrNotFound) && !missing(err) {
		return err
	}
	var changes []types.Change
	for _, at := range slices.SortedFunc(maps.Keys(stands), compareKeys) {
		if set := stands[at]; set.Type != types.RRTypeNs && set.Type != types.RRTypeSoa {
			changes = append(changes, types.Change{Action: types.ChangeActionDelete, ResourceRecordSet: &set})
		}
	}
	if err := a.change(ctx, zone, changes); err != nil {
		return err
	}
	if _, err := a.route53.DeleteHostedZone(ctx, &route53.DeleteHostedZoneInput{Id: &zone}); err != nil && !missing(err) {
		return explain("deleting zone "+zone, err)
	}
	return a.remove(ctx, worldParameter(id, "zone"))
}
